"""The text that a model reads of a rollout: the same `PromptFormat.render` in training and evaluation.

As in the paper, the user turn is empty and the whole text is in the assistant's turn (App. C). `format_of`
makes the format of a new model; that of a trained model is read from its card.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bisieve.errors import TrainingError
from bisieve.records.prompt import MARKER, PLACEHOLDER, STEP_SEPARATOR, placeholders, process_text
from ray_train.choices import FAMILY, NONE

if TYPE_CHECKING:
    from ray_train.model.families import Family


@dataclass(frozen=True)
class Chat:
    """The chat template of a family: by default ChatML."""

    start: str = "<|im_start|>"
    end: str = "<|im_end|>"
    assistant: str = "assistant"  # name of the model's role
    has_system: bool = True  # False: the system text is at the start of the user's turn

    def head(self, system: str) -> str:
        """Return the start of a text: the ``system`` turn if not empty, a user turn, the assistant's opening.

        The user turn is empty, or has the ``system`` text if the chat has no system turn.
        """
        own = f"{self.start}system\n{system}{self.end}\n" if system and self.has_system else ""
        text = f"{system}\n\n" if system and not self.has_system else ""
        return f"{own}{self.start}user\n{text}{self.end}\n{self.start}{self.assistant}\n"


CHATML = Chat()


@dataclass(frozen=True)
class PromptFormat:
    """How a rollout is rendered as text and its images are processed; part of a trained model's card."""

    image_slot: str  # text of one image; the processor expands it
    image_options: dict[str, Any]  # processor options (tiles, size) of the only image of a rollout
    image_backend: str = "pil"  # pixels of PIL and torchvision differ: never mix them
    marker: str = MARKER  # the reward of a step is read at the marker after it
    step_separator: str = STEP_SEPARATOR
    head: str = "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"
    tail: str = "<|im_end|>"
    positive: str = "Yes"  # the token whose probability is the reward
    negative: str = "No"
    # Processor options of each image where a rollout has 2, 3, … images; the last entry is for all larger
    # numbers. Empty in the cards of older models: then `image_options` is for any number of images.
    several_image_options: Sequence[dict[str, Any]] = field(default_factory=list)  # a list, as JSON has it
    in_place: bool = False  # slots replace the question's placeholders; older models: all slots in front

    def render(self, question: str, steps: Sequence[str], num_images: int) -> str:
        """Return the text of one rollout, with ``num_images`` image slots.

        Slots replace the placeholders of ``question`` if each image has exactly one (`placeholders`).
        Otherwise all slots are in front, and lines that consist of a placeholder alone are removed.
        """
        if self._places(question, num_images):
            question = PLACEHOLDER.sub(lambda _: self.image_slot, question)
            return self.head + process_text(question, steps, self.marker, self.step_separator) + self.tail
        slots = (self.image_slot + "\n") * num_images
        text = process_text(self.without_placeholders(question), steps, self.marker, self.step_separator)
        return self.head + slots + text + self.tail

    def image_order(self, question: str, num_images: int) -> list[int]:
        """Return the image number (from 0) of each slot of the rendered text, from left to right."""
        return self._places(question, num_images) or list(range(num_images))

    def is_unclear(self, question: str, num_images: int) -> bool:
        """Return whether ``question`` has placeholders that do not match the images one to one.

        That is: more or fewer of them than images, a number that is repeated or that no image has, or a mix
        of numbered and unnumbered ones.
        """
        found = self.in_place and PLACEHOLDER.search(question)
        return bool(found) and placeholders(question, num_images) is None

    def num_placeholders(self, question: str) -> int:
        """Return the number of image placeholders in ``question``."""
        return len(PLACEHOLDER.findall(question))

    def options_for(self, num_images: int) -> dict[str, Any]:
        """Return the processor's options for each image of a rollout with ``num_images``."""
        if num_images < 2 or not self.several_image_options:
            return self.image_options
        return self.several_image_options[min(num_images - 2, len(self.several_image_options) - 1)]

    def _places(self, question: str, num_images: int) -> list[int] | None:
        return placeholders(question, num_images) if self.in_place else None

    def without_placeholders(self, question: str) -> str:
        """Return ``question`` without the lines that consist of a placeholder alone, stripped."""
        if not self.in_place:
            return without_image_tags(question)
        lines = [line for line in question.split("\n") if not PLACEHOLDER.fullmatch(line.strip())]
        return "\n".join(lines).strip()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, as a card has them."""
        return asdict(self)


def format_of(
    family: "Family", tokenizer: Any, max_tiles: int, system: str, image_backend: str = "pil"
) -> PromptFormat:
    """Return the format of a new model.

    Args:
        family: of its backbone.
        tokenizer: the backbone's.
        max_tiles: tiles that the images of a rollout share; 0: the family's default.
        system: the value of ``--system``.
        image_backend: library that computes the pixels.
    """
    tiles = max_tiles or family.tiles
    return PromptFormat(
        family.image_slot(tokenizer), family.image_options(tiles), image_backend,
        head=chat_head(system, family.system, family.chat), tail=family.chat.end,
        several_image_options=shared_options(family.image_options, tiles), in_place=True,
    )  # fmt: skip


def format_in(card: dict[str, Any], folder: str) -> PromptFormat:
    """Return the prompt format in the card of the model in ``folder``.

    Raises:
        TrainingError: Its fields are not those of this version of bisieve.
    """
    try:
        return PromptFormat(**card["prompt_format"])
    except TypeError as error:
        from ray_train.model.metadata import CARD  # needs msgspec, which no step does

        raise TrainingError(
            f"a prompt_format of this version of bisieve in {CARD} of {folder}", str(error), "check --model"
        ) from error


def chat_head(system: str, own: str, chat: Chat = CHATML) -> str:
    """Return the start of a text, as `Chat.head` of the system text that ``--system`` chooses.

    Args:
        system: the value of ``--system``: ``family``, ``none`` or a text.
        own: the system text of the family.
        chat: of the family.
    """
    return chat.head({FAMILY: own, NONE: ""}.get(system, system))


def reserved_tokens(format: PromptFormat, family: "Family", tokenizer: Any) -> tuple[str, ...]:
    """Return the tokens that no question or step may contain."""
    return (format.marker, format.tail, family.chat.start, *family.reserved(tokenizer))


def format_fingerprint(system: str = NONE, own: str = "", chat: Chat = CHATML) -> str:
    """Return a hash of all that bisieve decides about the format, 12 hex digits.

    Image slot and image options are not part of it: they follow from backbone and config. The arguments are
    those of `chat_head`.
    """
    format = PromptFormat("<slot>", {}, head=chat_head(system, own, chat), tail=chat.end, in_place=True)
    questions = ("question", "<image2> is <image 1>?", "<image>, <image> or <image>?")
    texts = [format.render(question, ["step", "step"], num_images=2) for question in questions]
    seen = [*texts, format.to_json()]
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:12]


def shared_options(image_options: Callable[[int], dict[str, Any]], tiles: int) -> list[dict[str, Any]]:
    """Return the options of each image where 2, 3, … images share ``tiles``, at least one tile per image.

    The last entry has one tile per image.
    """
    return [image_options(max(1, tiles // images)) for images in range(2, max(2, tiles // 2 + 1) + 1)]


def without_image_tags(question: str) -> str:
    """Return ``question`` without lines that are only ``<image>`` or ``<imageN>``; for older models."""
    lines = [line for line in question.split("\n") if not _is_image_tag(line.strip())]
    return "\n".join(lines).strip()


def _is_image_tag(line: str) -> bool:
    return (
        line.startswith("<image")
        and line.endswith(">")
        and line[len("<image") : -1].isdigit() | (line == "<image>")
    )
