"""Rollouts with their images in, a batch of tensors out; a step is never cut in half."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from bisieve.io.images import was_transparent
from ray_train.model.backbone import Backbone
from ray_train.model.batch import NO_ROW, Batch, check_alignment
from ray_train.model.prompt_format import PromptFormat

if TYPE_CHECKING:
    from PIL.Image import Image

    from ray_train.data.image_cache import StoredImage


@dataclass(frozen=True)
class Sample:
    """What the model is to read, and what it should answer."""

    row: int  # in the selection, or NO_ROW
    images: "Sequence[Image | StoredImage]"  # pixels where they are encoded
    question: str
    steps: Sequence[str]
    labels: Sequence[float]  # one a step, in [0, 1]
    weight: float = 1.0  # of each of its steps in the loss
    totals: Sequence[int] | None = None  # N of each step; where it is 0 the step weighs nothing
    name: str = ""  # the rollout's id, for errors


@dataclass(frozen=True)
class Encoder:
    """Encodes samples for one backbone in one prompt format."""

    processor: Any  # text and PIL images -> tensors
    format: PromptFormat
    reserved: tuple[str, ...]  # tokens that only the format may put into the text
    marker_id: int
    max_length: int  # tokens

    def encode(self, samples: Sequence[Sample]) -> Batch:
        """The batch of ``samples``; one that does not fit is shortened by whole steps, or else skipped.

        A batch in which no sample, or none with an image, is left holds a filler of weight 0.
        """
        kept = with_an_image([sample for sample in samples if not self.is_ambiguous(sample)])
        inputs = self._tensors(kept)
        lengths = inputs["attention_mask"].sum(dim=1)
        if int(lengths.max()) > self.max_length:
            fitting = (self.shortened(s, ids) for s, ids in zip(kept, self._texts(inputs), strict=True))
            kept = with_an_image([sample for sample in fitting if sample.steps])
            inputs = self._tensors(kept)
        return self._batch(samples, kept, inputs)

    def _batch(self, samples: Sequence[Sample], kept: Sequence[Sample], inputs: dict[str, Any]) -> Batch:
        targets = aligned_targets(kept, (inputs["input_ids"] == self.marker_id).sum(dim=1).tolist())
        steps = {sample.row: len(sample.steps) for sample in kept}
        kept_steps = [steps.get(sample.row, 0) for sample in samples]
        shortened = sum(0 < k < len(s.steps) for k, s in zip(kept_steps, samples, strict=True))
        rows = [sample.row for sample in kept if sample.row != NO_ROW]
        return Batch(
            inputs, *targets, kept_steps, rows, shortened, kept_steps.count(0),
            transparent=transparent_images(samples), unclear=self.unclear(samples),
        )  # fmt: skip

    def _tensors(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Return the processor's tensors: one call for neighbours whose images have the same budget."""
        parts = [
            dict(
                self.processor(
                    images=[self.images(sample) for sample in part],
                    text=[self.text(sample) for sample in part],
                    padding=True, return_tensors="pt", **options,
                )
            )
            for options, part in self._by_options(samples)
        ]  # fmt: skip
        return parts[0] if len(parts) == 1 else _joined(parts, self.processor.tokenizer)

    def _by_options(self, samples: Sequence[Sample]) -> Iterator[tuple[dict[str, Any], list[Sample]]]:
        """Yield neighbours with equal options; one without images goes with those before it."""
        options = next(self.format.options_for(len(s.images)) for s in samples if s.images)
        paired = []
        for sample in samples:
            options = self.format.options_for(len(sample.images)) if sample.images else options
            paired.append((options, sample))
        for options, part in groupby(paired, key=lambda pair: pair[0]):
            yield options, [sample for _, sample in part]

    def images(self, sample: Sample) -> list[Any]:
        """Return the images of ``sample`` in the order of their slots in its text."""
        order = self.format.image_order(sample.question, len(sample.images))
        return [sample.images[number] for number in order]

    def unclear(self, samples: Sequence[Sample]) -> int:
        """Return how many ``samples`` have placeholders that do not tell the place of every image."""
        return sum(self.format.is_unclear(s.question, len(s.images)) for s in samples)

    def text(self, sample: Sample) -> str:
        """All that the model reads, an image being a slot."""
        return self.format.render(sample.question, sample.steps, len(sample.images))

    def is_ambiguous(self, sample: Sample) -> bool:
        """Whether a token of the format stands in the text, where it would be taken for the format's own."""
        text = "\n".join([sample.question, *sample.steps])
        return any(token in text for token in self.reserved)

    def _texts(self, inputs: dict[str, Any]) -> list[torch.Tensor]:
        masks = inputs["attention_mask"].bool()
        return [ids[mask] for ids, mask in zip(inputs["input_ids"], masks, strict=True)]

    def shortened(self, sample: Sample, ids: torch.Tensor) -> Sample:
        """``sample`` with as many of its first steps as fit, maybe none; ``ids`` are all its tokens."""
        markers = (ids == self.marker_id).nonzero().flatten()
        tail = len(ids) - 1 - int(markers[-1])
        fits = int((markers + 1 + tail <= self.max_length).sum())
        totals = None if sample.totals is None else sample.totals[:fits]
        return replace(sample, steps=sample.steps[:fits], labels=sample.labels[:fits], totals=totals)


_FILLED = {"input_ids": "pad_token_id"}  # the tokenizer's name for what pads; all others with 0
_OF_TEXT = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


def _joined(parts: Sequence[dict[str, Any]], tokenizer: Any) -> dict[str, Any]:
    """Return the tensors of several calls of a processor as if they were of one."""
    longest = max(part["input_ids"].shape[1] for part in parts)
    joined = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part[name] for part in parts if name in part]
        if name in _OF_TEXT:
            value = getattr(tokenizer, _FILLED[name]) or 0 if name in _FILLED else 0
            missing = [longest - each.shape[1] for each in values]
            left = tokenizer.padding_side == "left"
            values = [
                functional.pad(each, (more, 0) if left else (0, more), value=value)
                for each, more in zip(values, missing, strict=True)
            ]
        joined[name] = torch.cat(values)
    return joined


def transparent_images(samples: Sequence[Sample]) -> int:
    """Return how many different images of ``samples`` were transparent."""
    images: dict[int, Any] = {id(image): image for sample in samples for image in sample.images}
    return sum(was_transparent(image) for image in images.values() if hasattr(image, "info"))


def filler() -> Sample:
    """A sample that weighs nothing and can always be encoded: it keeps ranks in step with one another."""
    from PIL import Image

    return Sample(NO_ROW, [Image.new("RGB", (32, 32))], "", ["."], [0.0], weight=0.0)


def aligned_targets(
    samples: Sequence[Sample], markers: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Labels, weights and totals of all steps of ``samples``; ``markers`` says how many tokens of each are.

    float32, float32 and int64 ``[markers]``.  `TrainingError` that names the rollout unless each marker of
    each has its own.
    """
    labels: list[float] = []
    weights: list[float] = []
    totals: list[int] = []
    for sample, found in zip(samples, markers, strict=True):
        known = [1] * len(sample.labels) if sample.totals is None else sample.totals
        for targets in (sample.labels, known):
            check_alignment(found, len(targets), f"rollout {sample.name or f'in row {sample.row}'}")
        labels += sample.labels
        weights += [sample.weight * (n > 0) for n in known]
        totals += sample.totals or [0] * len(known)
    return torch.tensor(labels, dtype=torch.float32), torch.tensor(weights), torch.tensor(totals)


def with_an_image(samples: list[Sample]) -> list[Sample]:
    """``samples``, and a filler where none of them has an image.

    Under ZeRO-3 the vision encoder's weights are gathered from all ranks when it runs, so that one whose
    batch is text alone would leave the others waiting.
    """
    return samples if any(sample.images for sample in samples) else [*samples, filler()]


def make_encoder(backbone: Backbone, format: PromptFormat, max_length: int) -> Encoder:
    """The encoder of ``backbone``."""
    tokenizer = backbone.processor.tokenizer
    reserved = (format.marker, format.tail, backbone.family.chat.start, *backbone.family.reserved(tokenizer))
    return Encoder(backbone.processor, format, reserved, backbone.token_id(format.marker), max_length)
