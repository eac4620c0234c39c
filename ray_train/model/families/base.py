"""What differs from one family of Hugging Face-native backbones to the next."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray_train.model.prompt_format import CHATML, Chat

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Family:
    """How an image stands in the prompt, what fills it in, where its tokens are, and the model's parts."""

    model_type: str  # as config.json names it
    processor: str  # class in transformers
    image_slot: Callable[[Any], str]  # tokenizer -> the text that stands for one image in the prompt
    image_token: Callable[[Any], str]  # tokenizer -> the token in the slot that the processor repeats
    reserved: Callable[[Any], tuple[str, ...]]  # tokenizer -> tokens that no question or step may contain
    vision: str  # prefix of the vision encoder's parameters
    projector: tuple[str, ...]  # prefixes of the parameters between vision and language; they win over vision
    image_inputs: tuple[str, ...]  # what the processor makes of images, each stacked along its first axis
    # Model, tokens [length], image inputs -> positions [length], or [axes, length], of a rollout on its own.
    positions: "Callable[[Any, torch.Tensor, dict[str, torch.Tensor]], torch.Tensor]"
    patches_per_token: Callable[[Any], int]  # model config -> vision encoder's positions for one image token
    processor_options: Callable[[Any], dict[str, Any]]  # model config -> arguments of the processor
    tiles: int  # an image may have unless told otherwise; the paper's
    image_options: Callable[[int], dict[str, Any]]  # tiles one image may have -> arguments of each call
    system: str = ""  # the text of the system turn unless told otherwise; empty: no such turn
    chat: Chat = CHATML  # how its turns are written
    why_no_packs: str = ""  # what keeps its language part from reading packs; empty: nothing
    vision_runs: bool = False  # the vision encoder reads images, or windows of them, end to end
    vision_layers: str = ""  # where the vision encoder's layers are below it, if each reads tiles one by one

    def part_of(self, parameter: str) -> str:
        """``"vision"``, ``"projector"`` or ``"language"``, which the head belongs to, by the name."""
        if parameter.startswith(self.projector):
            return "projector"
        return "vision" if parameter.startswith(self.vision) else "language"
