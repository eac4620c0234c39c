"""Prompt format of an evaluation: the one of the model's training, or that of the paper's evaluation code.

bisieve.json, or options and family ──▶ the model's own format ──▶ --prompt training, or paper-eval

``--prompt paper-eval`` differs from the paper's training in three ways: there is no text between a step's
marker and the next step, the empty user turn is not closed, and all images of a solution are put on one.
"""

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from bisieve.records.prompt import process_text
from ray_train.choices import PAPER_EVAL
from ray_train.model.prompt_format import PromptFormat

if TYPE_CHECKING:
    from PIL.Image import Image

_COLUMNS = 3  # of the grid of images
_TAG, _NUMBERED_TAG = "<image>", re.compile(r"<image\d+>")


def prompt_of(format: PromptFormat, prompt: str) -> PromptFormat:
    """Return the model's own ``format``, or its `paper_eval_format` if ``prompt`` is ``paper-eval``."""
    return paper_eval_format(format) if prompt == PAPER_EVAL else format


class PaperEvalFormat(PromptFormat):
    """Prompt format of the paper's evaluation: one image, in place of the first ``<image>`` or in front."""

    def render(self, question: str, steps: Sequence[str], num_images: int) -> str:
        """Return the text of one solution with one image slot; numbered image tags are removed."""
        question = _NUMBERED_TAG.sub("", question).strip()
        text = process_text(question, steps, self.marker, self.step_separator)
        tagged = text if _TAG in text else f"{_TAG}\n{text}"
        return self.head + tagged.replace(_TAG, self.image_slot, 1) + self.tail

    def image_order(self, question: str, num_images: int) -> list[int]:
        """Return the order of the images, which is always the given one."""
        return list(range(num_images))

    def is_unclear(self, question: str, num_images: int) -> bool:
        """Return False, since one image has one place."""
        return False


def paper_eval_format(format: PromptFormat) -> PaperEvalFormat:
    """Return the prompt format of the paper's evaluation for a model whose own is ``format``."""
    values = {item.name: getattr(format, item.name) for item in fields(format)}
    before, _, after = format.head.rpartition(f"{format.tail}\n")  # the end of the user's turn
    values["head"] = before + after
    return PaperEvalFormat(**{**values, "step_separator": ""})


def one_image(images: "Sequence[Image]") -> "Image":
    """Return all ``images`` (RGB) on one white grid of at most 3 columns, each centred in its cell.

    Cells have the width of the widest image and the height of the highest. A single image is returned as it
    is.
    """
    from PIL import Image

    if len(images) == 1:
        return images[0]
    columns = min(_COLUMNS, len(images))
    width, height = max(image.width for image in images), max(image.height for image in images)
    grid = Image.new("RGB", (columns * width, -(-len(images) // columns) * height), "white")
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        left, top = (width - image.width) // 2, (height - image.height) // 2
        grid.paste(image, (column * width + left, row * height + top))
        grid.info |= image.info  # keeps, for example, the note that an image was transparent
    return grid
