"""Tiny backbones of all families, built from their config classes: no code path differs from a real one."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

CHAT = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT = "Question: what is the sum of the digits? Process: Yes No. The digit is 3. Final answer: 7"


def tokenizer_with(special: list[str], **named: object) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in which Yes and No are one token each."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=CHAT + special)
    bpe.train_from_iterator(["Yes", "No", TEXT] * 50, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", **named
    )


def build_internvl(folder: Path, tied: bool = True, language: Any = Qwen2Config, **sizes: Any) -> None:
    """An InternVL of 0.1M parameters; ``language`` and ``sizes`` make its language part's config."""
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = tokenizer_with(list(named.values()), extra_special_tokens=named)
    tokenizer.save_pretrained(folder)
    GotOcr2ImageProcessorPil(
        size={"height": 28, "width": 28}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(folder)
    vision = InternVLVisionConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=28,
        patch_size=7,
    )
    text = language(**{
        "vocab_size": len(tokenizer), "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "tie_word_embeddings": tied, **sizes,
    })  # fmt: skip
    config = InternVLConfig(
        vision_config=vision, text_config=text, image_seq_length=4, tie_word_embeddings=tied,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )  # fmt: skip
    torch.manual_seed(0)
    InternVLForConditionalGeneration(config).save_pretrained(folder)


def qwen_parts(folder: Path, **sizes: int) -> dict[str, Any]:
    """Saves tokenizer and image processor; the arguments of a config that do not depend on the generation."""
    special = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = tokenizer_with(special)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(**sizes).save_pretrained(folder)
    ids = dict(zip(special, tokenizer.convert_tokens_to_ids(special), strict=True))
    return {
        "text_config": {
            "vocab_size": len(tokenizer), "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 4, 4]},
        },
        "vision_config": {
            "depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 48,
        },
        "vision_start_token_id": ids["<|vision_start|>"], "vision_end_token_id": ids["<|vision_end|>"],
        "image_token_id": ids["<|image_pad|>"], "video_token_id": ids["<|video_pad|>"],
    }  # fmt: skip


def build_qwen(folder: Path, **text: int) -> None:
    """A Qwen2.5-VL of 0.2M parameters; ``text`` are sizes of its language part."""
    parts = qwen_parts(folder)
    parts["text_config"] |= text
    parts["vision_config"]["fullatt_block_indexes"] = [0]
    torch.manual_seed(0)
    Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**parts)).save_pretrained(folder)


def build_qwen3(folder: Path) -> None:
    """A Qwen3-VL of 0.2M parameters whose vision reaches the language model at two layers."""
    parts = qwen_parts(folder, patch_size=16)
    parts["text_config"] |= {"head_dim": 24}
    parts["vision_config"] |= {"depth": 2, "deepstack_visual_indexes": [0], "num_position_embeddings": 64}
    torch.manual_seed(0)
    Qwen3VLForConditionalGeneration(Qwen3VLConfig(**parts)).save_pretrained(folder)


def write_other_weights(folder: Path) -> None:
    """Weights in the place of those in ``folder``, of the same names, shapes and size."""
    file = folder / "model.safetensors"
    size, weights = file.stat().st_size, load_file(file)
    save_file({name: tensor + 1e-3 for name, tensor in weights.items()}, file, {"format": "pt"})
    assert file.stat().st_size == size
