"""Qwen2.5-VL: an image keeps its shape, and its tokens have a position in time, height and width."""

from typing import Any

import torch

from ray_train.model.families.family import Family


def rope_index(model: Any, tokens: torch.Tensor, images: dict[str, torch.Tensor]) -> torch.Tensor:
    """int64 ``[3, length]``: the model's own rule, text going on from the image's largest position."""
    is_image = (tokens == model.config.image_token_id).int()
    positions, _ = model.model.get_rope_index(tokens[None], is_image[None], images.get("image_grid_thw"))
    return torch.as_tensor(positions[:, 0])


FAMILY = Family(
    model_type="qwen2_5_vl",
    processor="Qwen2_5_VLProcessor",
    image_slot=lambda tokenizer: "<|vision_start|><|image_pad|><|vision_end|>",
    image_token=lambda tokenizer: "<|image_pad|>",
    reserved=lambda tokenizer: ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"),
    vision="model.visual.",
    projector=("model.visual.merger.",),
    image_inputs=("pixel_values", "image_grid_thw"),
    positions=rope_index,
    patches_per_token=lambda config: config.vision_config.spatial_merge_size**2,
    processor_options=lambda config: {},
    # Qwen resizes instead of tiling: the paper's bounds on the pixels.
    image_options=lambda tiles: {"min_pixels": 784, "max_pixels": 200_704},
)
