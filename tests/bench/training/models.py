"""InternVL models of several sizes, randomly initialised, shaped as the checkpoints they are named after."""

from dataclasses import dataclass

import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    Qwen2Config,
)

IMAGE, MARKER, YES, NO, FIRST_WORD = range(5)  # token ids


@dataclass(frozen=True)
class Size:
    """What a model and its images look like."""

    vocabulary: int
    language: tuple[int, int, int, int, int]  # hidden, layers, heads, heads of key and value, intermediate
    vision: tuple[int, int, int, int]  # hidden, layers, heads, intermediate
    side: int = 448  # pixels of a tile

    @property
    def tile_tokens(self) -> int:
        """Tokens of the language model a tile."""
        return (self.side // 28) ** 2


SIZES = {
    "nano": Size(512, (32, 1, 2, 1, 64), (32, 1, 2, 64), side=56),  # for the tests of the benchmarks
    # The language head and the vision encoder cost about the share of a step that they cost in the 1b.
    "tiny": Size(4096, (128, 4, 4, 2, 512), (128, 4, 4, 512)),
    "1b": Size(151_674, (896, 24, 14, 2, 4864), (1024, 24, 16, 4096)),  # InternVL3-1B
    "2b": Size(151_674, (1536, 28, 12, 2, 8960), (1024, 24, 16, 4096)),  # InternVL3-2B
}


def build_model(
    size: Size, device: torch.device, image_token: int = IMAGE
) -> InternVLForConditionalGeneration:
    """On ``device``, float32 on a CPU, bfloat16 on a GPU; the vision encoder is frozen, as in the paper."""
    torch.manual_seed(0)
    hidden, layers, heads, pairs, intermediate = size.language
    text = Qwen2Config(
        vocab_size=size.vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=pairs, intermediate_size=intermediate, tie_word_embeddings=True,
        pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    hidden, layers, heads, intermediate = size.vision
    vision = InternVLVisionConfig(
        image_size=size.side, patch_size=14, hidden_size=hidden, num_hidden_layers=layers,
        num_attention_heads=heads, intermediate_size=intermediate,
    )  # fmt: skip
    config = InternVLConfig(
        vision_config=vision, text_config=text, image_token_id=image_token, image_seq_length=size.tile_tokens,
        tie_word_embeddings=True,
    )  # fmt: skip
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = InternVLForConditionalGeneration(config).to(device, dtype).train()
    model.model.vision_tower.requires_grad_(False)
    return model
