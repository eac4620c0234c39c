"""InternVL 2.5 (converted), 3 and 3.5 as ``-hf`` checkpoints: an image is cut into tiles."""

from typing import TYPE_CHECKING, Any

from ray_train.model.families import Family

if TYPE_CHECKING:
    import torch


def text_positions(model: Any, tokens: "torch.Tensor", images: "dict[str, torch.Tensor]") -> "torch.Tensor":
    """Return positions that count tokens, whether they are of text or of images (int64 [length])."""
    import torch

    return torch.arange(len(tokens))


FAMILY = Family(
    model_type="internvl",
    processor="InternVLProcessor",
    image_slot=lambda tokenizer: str(tokenizer.context_image_token),
    image_token=lambda tokenizer: str(tokenizer.context_image_token),
    reserved=lambda tokenizer: (
        tokenizer.context_image_token,
        tokenizer.start_image_token,
        tokenizer.end_image_token,
        tokenizer.video_token,
    ),
    vision="model.vision_tower.",
    projector=("model.multi_modal_projector.",),
    image_inputs=("pixel_values",),
    positions=text_positions,
    patches_per_token=lambda config: round(config.downsample_ratio**-2),
    processor_options=lambda config: {"image_seq_length": config.image_seq_length},
    tiles=6,
    image_options=lambda tiles: {"crop_to_patches": True, "min_patches": 1, "max_patches": tiles},
    # The paper's system text in training and evaluation; transformers has no chat template of this family.
    system=(
        "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
    ),
    served_as="InternVLForSequenceClassification",
    vision_layers="encoder.layer",
)
