"""What differs between the families of vision-language models, in one table.

Adding a family is adding a row: how an image stands in the prompt, which processor fills it in, and
which modules are vision, projector and language.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bisieve.errors import TrainingError


@dataclass(frozen=True)
class Family:
    """One family of Hugging Face-native backbones."""

    model_type: str  # as config.json names it
    processor: str  # class in transformers
    image_slot: Callable[[Any], str]  # tokenizer -> the text that stands for one image in the prompt
    reserved: Callable[[Any], tuple[str, ...]]  # tokenizer -> tokens that no question or step may contain
    vision: str  # prefix of the vision encoder's parameters
    processor_options: Callable[[Any], dict[str, Any]]  # model config -> arguments of the processor
    image_options: Callable[[int], dict[str, Any]]  # tiles an image may have -> arguments of each call


FAMILIES = {
    family.model_type: family
    for family in (
        Family(
            model_type="internvl",
            processor="InternVLProcessor",
            image_slot=lambda tokenizer: str(tokenizer.context_image_token),
            reserved=lambda tokenizer: (
                tokenizer.context_image_token,
                tokenizer.start_image_token,
                tokenizer.end_image_token,
                tokenizer.video_token,
            ),
            vision="model.vision_tower.",
            processor_options=lambda config: {"image_seq_length": config.image_seq_length},
            image_options=lambda tiles: {"crop_to_patches": True, "min_patches": 1, "max_patches": tiles},
        ),
        Family(
            model_type="qwen2_5_vl",
            processor="Qwen2_5_VLProcessor",
            image_slot=lambda tokenizer: "<|vision_start|><|image_pad|><|vision_end|>",
            reserved=lambda tokenizer: (
                "<|image_pad|>",
                "<|video_pad|>",
                "<|vision_start|>",
                "<|vision_end|>",
            ),
            vision="model.visual.",
            processor_options=lambda config: {},
            # Qwen resizes instead of tiling: the paper's bounds on the pixels.
            image_options=lambda tiles: {"min_pixels": 784, "max_pixels": 200_704},
        ),
    )
}


def family_of(model_type: str) -> Family:
    """The family of a ``config.json``; `TrainingError` for one that is not in the table."""
    if model_type not in FAMILIES:
        known = " or ".join(sorted(FAMILIES))
        raise TrainingError(f"a backbone of type {known}", model_type, "choose another --backbone")
    return FAMILIES[model_type]
