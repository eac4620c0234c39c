"""`Family`: all that differs between families of Hugging Face-native backbones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray_train.model.prompt_format import CHATML, Chat

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Family:
    """A family of backbones: its image tokens, positions, processor options, parts and chat template."""

    model_type: str  # as config.json names it
    processor: str  # class in transformers
    image_slot: Callable[[Any], str]  # tokenizer -> the text of one image in the prompt
    image_token: Callable[[Any], str]  # tokenizer -> the token of the slot that the processor repeats
    reserved: Callable[[Any], tuple[str, ...]]  # tokenizer -> tokens that no question or step may contain
    vision: str  # prefix of the vision encoder's parameters
    projector: tuple[str, ...]  # prefixes of the parameters in between; they take precedence over `vision`
    image_inputs: tuple[str, ...]  # the processor's image tensors, each stacked along its first axis
    # Model, tokens [length] of one rollout, its image inputs -> positions int64 [length] or [axes, length].
    positions: "Callable[[Any, torch.Tensor, dict[str, torch.Tensor]], torch.Tensor]"
    patches_per_token: Callable[[Any], int]  # model config -> patches of the vision encoder per image token
    processor_options: Callable[[Any], dict[str, Any]]  # model config -> arguments of the processor
    tiles: int  # default number of tiles of a rollout's images; the paper's
    image_options: Callable[[int], dict[str, Any]]  # tiles of one image -> arguments of processor calls
    system: str = ""  # default text of the system turn; empty: no such turn
    chat: Chat = CHATML  # chat template
    why_no_packs: str = ""  # why its language part cannot read packs; empty: it can
    vision_runs: bool = False  # the vision encoder's input concatenates images, or windows of them
    served_as: str = ""  # vLLM's class that gives its rewards; empty: it was not tried
    interleaved_axes: bool = (
        False  # rotary positions alternate between the axes; vLLM does not know by itself
    )
    vision_layers: str = ""  # path of its layers in the vision encoder, if it reads tiles separately

    def part_of(self, parameter: str) -> str:
        """Return the part of a parameter, by its name: ``vision``, ``projector`` or ``language``.

        The language head is part of ``language``.
        """
        if parameter.startswith(self.projector):
            return "projector"
        return "vision" if parameter.startswith(self.vision) else "language"
