"""Encode rollouts and their images as a batch of padded rows; a step is never truncated.

    Sample ──PromptFormat──▶ text, images ──processor──▶ input_ids [rows, length], pixels ──▶ Batch

A rollout that exceeds ``max_length`` loses whole trailing steps, or is skipped if not even one step fits.
`Encoder.encode` does all of it; `packing` uses the other methods for packs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from bisieve.io.images import was_transparent
from ray_train.model.backbone import Backbone
from ray_train.model.prompt_format import PromptFormat, reserved_tokens
from ray_train.model.reward import NO_ROW, Batch, check_alignment

if TYPE_CHECKING:
    from PIL.Image import Image

    from ray_train.data.images import StoredImage


@dataclass(frozen=True)
class Sample:
    """One rollout: the model's input and its targets."""

    row: int  # in the selection, or NO_ROW
    images: "Sequence[Image | StoredImage]"  # encoded bytes at first, PIL images when they are processed
    question: str
    steps: Sequence[str]
    labels: Sequence[float]  # one per step, in [0, 1]
    weight: float = 1.0  # of each of its steps in the loss
    totals: Sequence[int] | None = None  # N of each step; a step with N = 0 has weight 0
    name: str = ""  # rollout id, for errors


@dataclass(frozen=True)
class Encoder:
    """Encoder of samples for one backbone in one prompt format."""

    processor: Any  # text and PIL images -> tensors
    format: PromptFormat
    reserved: tuple[str, ...]  # tokens that no question or step may contain
    marker_id: int
    max_length: int  # tokens

    def encode(self, samples: Sequence[Sample]) -> Batch:
        """Return the batch of ``samples``, whose images are PIL images; a row of ``input_ids`` per sample.

        A sample that exceeds ``max_length`` tokens loses trailing steps. It is skipped if no step fits, or if
        it is ambiguous (`is_ambiguous`). If no sample with an image remains, a filler of weight 0 is added.

        Raises:
            TrainingError: a sample does not have as many markers as labels.
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
        """Return the processor's tensors of all samples.

        One call for each run of consecutive samples whose images have the same processor options.
        """
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
        """Yield runs of consecutive samples with equal processor options.

        A sample without images takes the options of the sample before it.
        """
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
        """Return the number of ``samples`` whose image placeholders do not match their images one to one."""
        return sum(self.format.is_unclear(s.question, len(s.images)) for s in samples)

    def text(self, sample: Sample) -> str:
        """Return the whole text that the model reads, with one slot per image."""
        return self.format.render(sample.question, sample.steps, len(sample.images))

    def is_ambiguous(self, sample: Sample) -> bool:
        """Return whether the question or a step contains a reserved token, such as the marker."""
        text = "\n".join([sample.question, *sample.steps])
        return any(token in text for token in self.reserved)

    def _texts(self, inputs: dict[str, Any]) -> list[torch.Tensor]:
        masks = inputs["attention_mask"].bool()
        return [ids[mask] for ids, mask in zip(inputs["input_ids"], masks, strict=True)]

    def shortened(self, sample: Sample, ids: torch.Tensor) -> Sample:
        """Return ``sample`` with as many leading steps as fit into ``max_length`` tokens, maybe none.

        ``ids`` are all tokens of the unshortened sample, int64 ``[length]``.
        """
        markers = (ids == self.marker_id).nonzero().flatten()
        tail = len(ids) - 1 - int(markers[-1])
        fits = int((markers + 1 + tail <= self.max_length).sum())
        totals = None if sample.totals is None else sample.totals[:fits]
        return replace(sample, steps=sample.steps[:fits], labels=sample.labels[:fits], totals=totals)


_FILLED = {"input_ids": "pad_token_id"}  # input -> the tokenizer's attribute with its padding; others: 0
_OF_TEXT = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


def _joined(parts: Sequence[dict[str, Any]], tokenizer: Any) -> dict[str, Any]:
    """Return the tensors of several processor calls as one call would return them: padded and concatenated.

    Text inputs are ``[rows, length]``; all others are concatenated along their first axis.
    """
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
    """Return the number of distinct images of ``samples`` that were transparent before decoding."""
    images: dict[int, Any] = {id(image): image for sample in samples for image in sample.images}
    return sum(was_transparent(image) for image in images.values() if hasattr(image, "info"))


def filler() -> Sample:
    """Return a sample of weight 0 that can always be encoded, with one small image.

    It keeps the collectives of all ranks aligned when a rank has nothing to encode.
    """
    from PIL import Image

    return Sample(NO_ROW, [Image.new("RGB", (32, 32))], "", ["."], [0.0], weight=0.0)


def aligned_targets(
    samples: Sequence[Sample], markers: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the labels, weights and totals of all steps of ``samples``, in the order of their markers.

    Args:
        samples: in the order in which they are in the batch.
        markers: number of marker tokens of each sample.

    Returns:
        Labels float32 ``[markers]``, weights float32 ``[markers]`` (0 for a step with N = 0), and totals N
        int64 ``[markers]`` (0 where a sample has none).

    Raises:
        TrainingError: a sample does not have as many markers as labels; names the rollout.
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
    """Return ``samples``, with a filler appended if none of them has an image.

    Under ZeRO-3 all ranks take part when the vision encoder's weights are gathered. A rank whose batch has no
    image would not run the encoder, and the other ranks would hang.
    """
    return samples if any(sample.images for sample in samples) else [*samples, filler()]


def make_encoder(backbone: Backbone, format: PromptFormat, max_length: int) -> Encoder:
    """Return the encoder of ``backbone`` for texts of up to ``max_length`` tokens.

    Raises:
        TrainingError: the marker of ``format`` is not one token of the tokenizer.
    """
    reserved = reserved_tokens(format, backbone.family, backbone.processor.tokenizer)
    return Encoder(backbone.processor, format, reserved, backbone.token_id(format.marker), max_length)
