"""The parts of the base backbone: a tiny InternVL from its config classes, tokenizer, image processor."""

from collections.abc import Iterable

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

SIDE = 56  # pixels
PATCH = 7
DOWNSAMPLE = 0.5
TOKENS_A_SIDE = int(SIDE // PATCH * DOWNSAMPLE)  # 4
IMAGE_TOKENS = TOKENS_A_SIDE**2
VOCABULARY = 512
PAD, TURN, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
IMAGE_START, IMAGE, IMAGE_END, VIDEO = "<img>", "<IMG_CONTEXT>", "</img>", "<video>"
PICTURE = IMAGE_START + IMAGE * IMAGE_TOKENS + IMAGE_END


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer in which every digit is a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, TURN, END, IMAGE_START, IMAGE_END, IMAGE, VIDEO]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        padding_side="left",
        model_max_length=1024,
        extra_special_tokens={
            "start_image_token": IMAGE_START,
            "end_image_token": IMAGE_END,
            "context_image_token": IMAGE,
            "video_token": VIDEO,
        },
    )


def image_processor() -> GotOcr2ImageProcessorPil:
    """Return an image processor that keeps 56 × 56 pictures and scales grey values to [-1, 1]."""
    return GotOcr2ImageProcessorPil(
        size={"height": SIDE, "width": SIDE},
        crop_to_patches=False,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def pixels_of(pictures: np.ndarray) -> torch.Tensor:
    """Convert grey pictures as `image_processor` does: uint8 [n, 56, 56] to float32 [n, 3, 56, 56]."""
    return ((torch.from_numpy(pictures).float() / 255 - 0.5) / 0.5)[:, None].expand(-1, 3, -1, -1)


def build_model(
    tokenizer: PreTrainedTokenizerFast, vision_width: int = 96, width: int = 128, layers: int = 5
) -> InternVLForConditionalGeneration:
    """Return a model with random weights; ``width`` and ``layers`` are those of the language model."""
    vision = InternVLVisionConfig(
        image_size=SIDE,
        patch_size=PATCH,
        hidden_size=vision_width,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * vision_width,
        use_absolute_position_embeddings=True,
        layer_scale_init_value=1.0,
    )
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=3 * width // 2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=IMAGE_TOKENS,
        downsample_ratio=DOWNSAMPLE,
        tie_word_embeddings=True,
    )
    return InternVLForConditionalGeneration(config)
