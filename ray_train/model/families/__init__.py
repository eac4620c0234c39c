"""The families of vision-language models that can be trained: one module each, with a constant ``FAMILY``.

`Family` is all that differs between families of Hugging Face-native backbones. To add one, add a module here;
nothing else names it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from bisieve.errors import StorageError, TrainingError
from bisieve.io import storage
from bisieve.io.urls import canonical, join
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
    interleaved_axes: bool = False  # whether rotary positions alternate between the axes
    vision_layers: str = ""  # path of its layers in the vision encoder, if it reads tiles separately

    def part_of(self, parameter: str) -> str:
        """Return the part of a parameter, by its name: ``vision``, ``projector`` or ``language``.

        The language head is part of ``language``.
        """
        if parameter.startswith(self.projector):
            return "projector"
        return "vision" if parameter.startswith(self.vision) else "language"


def known_families() -> dict[str, Family]:
    """Return all families by the ``model_type`` of their ``config.json``."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    families = [module.FAMILY for module in modules if hasattr(module, "FAMILY")]
    return {family.model_type: family for family in families}


def family_of(model_type: str) -> Family:
    """Return the family of a config's ``model_type``; raise `TrainingError` if it is unknown."""
    families = known_families()
    if model_type not in families:
        known = " or ".join(sorted(families))
        raise TrainingError(f"a backbone of type {known}", model_type, "choose another --backbone or --model")
    return families[model_type]


def system_and_chat(source: str) -> tuple[str, Chat]:
    """Return the system text and the chat template of the family of the model at ``source``.

    Args:
        source: folder, URL or hub id. The config of a hub id is not read: the system text is then those of
            all families, joined by newlines, and the template ChatML.

    Returns:
        An empty text and ChatML if the config cannot be read or names no known family.
    """
    families = known_families()
    if "://" not in source and not Path(source).is_dir():
        return "\n".join(families[name].system for name in sorted(families) if families[name].system), CHATML
    try:
        config = json.loads(storage.read_bytes(join(canonical(source), "config.json")))
        family = families[config["model_type"]]
    except (ValueError, KeyError, TypeError, StorageError):  # loading the model will report what is wrong
        return "", CHATML
    return family.system, family.chat
