"""Gemma 3: each image is resized to one square, and the tokens of an image see each other bidirectionally."""

from typing import Any

from bisieve.errors import TrainingError
from ray_train.model.families import Family
from ray_train.model.families.internvl import text_positions
from ray_train.model.prompt_format import Chat

_START, _END, _SOFT = "<start_of_image>", "<end_of_image>", "<image_soft_token>"


def _image_options(tiles: int) -> dict[str, Any]:
    if tiles > 1:
        raise TrainingError(
            "--max-tiles 1 with Gemma 3, which reads an image as one square",
            str(tiles),
            "leave out --max-tiles",
        )
    return {"do_pan_and_scan": False}


def _patches_per_token(config: Any) -> int:
    edge = config.vision_config.image_size // config.vision_config.patch_size
    return int(edge**2 // config.mm_tokens_per_image)


FAMILY = Family(
    model_type="gemma3",
    processor="Gemma3Processor",
    image_slot=lambda tokenizer: _START,
    image_token=lambda tokenizer: _START,  # the processor adds the image's tokens and an end token after it
    reserved=lambda tokenizer: (_START, _END, _SOFT),
    vision="model.vision_tower.",
    projector=("model.multi_modal_projector.",),
    image_inputs=("pixel_values",),
    positions=text_positions,
    patches_per_token=_patches_per_token,
    processor_options=lambda config: {"image_seq_length": config.mm_tokens_per_image},
    tiles=1,
    image_options=_image_options,
    chat=Chat("<start_of_turn>", "<end_of_turn>", "model", has_system=False),
    why_no_packs="images whose tokens see one another, and layers of sliding_attention",
)
