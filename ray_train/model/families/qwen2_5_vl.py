"""Qwen2.5-VL: an image keeps its shape, and its tokens have a position in time, height and width."""

from typing import TYPE_CHECKING, Any

from ray_train.model.families.base import Family

if TYPE_CHECKING:
    import torch


def rope_index(model: Any, tokens: "torch.Tensor", images: "dict[str, torch.Tensor]") -> "torch.Tensor":
    """int64 ``[3, length]``: the model's own rule, text going on from the image's largest position."""
    is_image = (tokens == model.config.image_token_id).int()
    positions, _ = model.model.get_rope_index(tokens[None], is_image[None], images.get("image_grid_thw"))
    return positions[:, 0]  # type: ignore[no-any-return]


def sized(edge: int, tiles: int) -> dict[str, Any]:
    """An image of 1 to ``tiles`` · 256 tokens of ``edge`` × ``edge`` pixels each; Qwen resizes, never cuts.

    A tile is one of InternVL's in tokens, and in pixels with an edge of 28: 448 × 448, the paper's bound.
    """
    # transformers calls numbers of pixels edges here.
    return {"size": {"shortest_edge": edge**2, "longest_edge": tiles * 256 * edge**2}}


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
    tiles=1,
    image_options=lambda tiles: sized(28, tiles),
    vision_runs=True,
)
