"""Qwen2.5-VL: an image keeps its aspect ratio; tokens have positions on three axes: time, height, width."""

from typing import TYPE_CHECKING, Any

from ray_train.model.families import Family

if TYPE_CHECKING:
    import torch


def rope_index(model: Any, tokens: "torch.Tensor", images: "dict[str, torch.Tensor]") -> "torch.Tensor":
    """Return the positions of one rollout's tokens by the model's own rule, int64 ``[3, length]``.

    Text after an image continues from the image's largest position.

    Args:
        model: of a Qwen-VL family.
        tokens: int64 ``[length]``.
        images: with ``image_grid_thw`` int64 ``[images, 3]``, if there are images.
    """
    is_image = (tokens == model.config.image_token_id).int()
    positions, _ = model.model.get_rope_index(tokens[None], is_image[None], images.get("image_grid_thw"))
    return positions[:, 0]  # type: ignore[no-any-return]


def sized(edge: int, tiles: int) -> dict[str, Any]:
    """Return processor options that resize an image to between 1 and ``tiles`` · 256 tokens.

    Qwen resizes images and never cuts them. A tile is 256 tokens, as InternVL's; with an ``edge`` of 28 it
    has 448 × 448 pixels, the paper's limit.

    Args:
        edge: pixels along the edge of the square that is one token.
        tiles: size limit of the image.
    """
    # In transformers these "edges" are numbers of pixels.
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
    served_as="Qwen2_5_VLForSequenceClassification",
)
