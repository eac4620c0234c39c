"""The chat around a rollout's text: one function, used in training and in evaluation alike.

As in the paper, the user turn is empty and everything stands in the assistant's turn (App. C).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bisieve.prompt import MARKER, STEP_SEPARATOR, process_text

FAMILY, NONE = "family", "none"  # of --system: the family's own system turn, or no such turn


@dataclass(frozen=True)
class PromptFormat:
    """How a rollout becomes the text a model reads; saved beside every trained model."""

    image_slot: str  # stands for one image; the processor expands it
    image_options: dict[str, Any]  # how the processor cuts and sizes an image
    image_backend: str = "pil"  # pixels of PIL and torchvision differ: never mix them
    marker: str = MARKER  # the reward of a step is read at the marker behind it
    step_separator: str = STEP_SEPARATOR
    head: str = "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"
    tail: str = "<|im_end|>"
    positive: str = "Yes"  # the token whose probability is the reward
    negative: str = "No"

    def render(self, question: str, steps: Sequence[str], num_images: int) -> str:
        """The text of one rollout with ``num_images`` image slots in front of it, all images in order."""
        slots = (self.image_slot + "\n") * num_images
        text = process_text(without_image_tags(question), steps, self.marker, self.step_separator)
        return self.head + slots + text + self.tail

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def chat_head(system: str, own: str) -> str:
    """Return what begins a text: the system turn, if any, the empty user turn and the assistant's opening.

    ``system`` is the value of ``--system``, ``own`` the text of the family's system turn.
    """
    text = {FAMILY: own, NONE: ""}.get(system, system)
    turn = f"<|im_start|>system\n{text}<|im_end|>\n" if text else ""
    return turn + PromptFormat.head


def is_system(system: str) -> bool:
    """Whether ``system`` is one of the two names, or a text without any token of the chat or the marker."""
    return bool(system.strip()) and "<|" not in system and MARKER not in system


def format_fingerprint(system: str = NONE, own: str = "") -> str:
    """Name all of the format that is ours; slot and image options follow from backbone and config.

    The arguments are `chat_head`'s.  Without a system turn it is the fingerprint of a run from before there
    was any.
    """
    format = PromptFormat("<slot>", {}, head=chat_head(system, own))
    seen = [format.render("question", ["step", "step"], num_images=2), format.to_json()]
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:12]


def without_image_tags(question: str) -> str:
    """``question`` without the lines that only say where an image stood (``<image>``, ``<image1>``, …)."""
    lines = [line for line in question.split("\n") if not _is_image_tag(line.strip())]
    return "\n".join(lines).strip()


def _is_image_tag(line: str) -> bool:
    return (
        line.startswith("<image")
        and line.endswith(">")
        and line[len("<image") : -1].isdigit() | (line == "<image>")
    )
