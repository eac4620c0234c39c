"""The rollouts of a prompt as tokens: what costs CPU time before they are packed, and needs no model."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

import torch

from ray_train.data.encoding import Encoder, Sample, transparent_images


@dataclass(frozen=True)
class PromptTokens:
    """The rollouts of one prompt that can be trained on, maybe none."""

    samples: list[Sample]  # without their images
    rollouts: list[torch.Tensor]  # int64 [length] each
    shared: int  # tokens that all of them begin with
    images: dict[str, torch.Tensor]  # the processor's, each stacked along its first axis
    shortened: int  # samples that lost trailing steps
    skipped: int  # samples that were left out
    transparent: int = 0  # images that were put on white
    unclear: int = 0  # samples whose placeholders do not tell the place of every image
    broken: dict[str, str] = field(default_factory=dict)  # images whose rollouts are left out, and why


@dataclass(frozen=True)
class PromptReader:
    """Makes `PromptTokens`."""

    encoder: Encoder
    image_inputs: tuple[str, ...]  # what the processor makes of images
    slot_id: int  # the token that stands for an image before the processor repeats it

    def read(self, samples: Sequence[Sample]) -> PromptTokens:
        """The tokens of ``samples``, which have their images and question in common.

        One that does not fit ``max_length`` is shortened or left out as in `Encoder.encode`.
        """
        counts: Any = {"transparent": transparent_images(samples), "unclear": self.encoder.unclear(samples)}
        clear = [sample for sample in samples if not self.encoder.is_ambiguous(sample)]
        if not clear:
            return PromptTokens([], [], 0, {}, 0, len(samples), **counts)
        head, images = self._images(clear[0])
        pairs = zip(clear, self._tails(clear), strict=True)
        fitting = [self.encoder.shortened(sample, torch.cat([head, tail])) for sample, tail in pairs]
        shortened = sum(0 < len(s.steps) < len(c.steps) for s, c in zip(fitting, clear, strict=True))
        kept = [replace(sample, images=()) for sample in fitting if sample.steps]
        tails = self._tails([sample for sample in fitting if sample.steps])
        shared = len(head) + _shared_length(tails, self.encoder.marker_id)
        rollouts = [torch.cat([head, tail]) for tail in tails]
        skipped = len(samples) - len(kept)
        return PromptTokens(kept, rollouts, shared, images, shortened, skipped, **counts)

    def _images(self, sample: Sample) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the tokens of ``sample`` up to its last image, text between images included, and pixels."""
        if not sample.images:
            return torch.tensor([], dtype=torch.int64), {}
        (tail,) = self._tails([sample])
        options = self.encoder.format.options_for(len(sample.images))
        text, images = [self.encoder.text(sample)], [self.encoder.images(sample)]
        inputs = self.encoder.processor(images=images, text=text, return_tensors="pt", **options)
        tokens = inputs["input_ids"][0]
        return tokens[: len(tokens) - len(tail)], {name: inputs[name] for name in self.image_inputs}

    def _tails(self, samples: Sequence[Sample]) -> list[torch.Tensor]:
        """The tokens of each sample behind its last image: a slot is not yet repeated for its image."""
        if not samples:
            return []
        texts = [self.encoder.text(sample) for sample in samples]
        return [_after_last(self.slot_id, ids) for ids in self.encoder.processor.tokenizer(texts).input_ids]


def _after_last(token: int, ids: Sequence[int]) -> torch.Tensor:
    return torch.tensor(ids[len(ids) - ids[::-1].index(token) :] if token in ids else ids)


def _shared_length(tails: Sequence[torch.Tensor], marker_id: int) -> int:
    """How many first tokens all have in common, up to the first marker: each rollout needs its own."""
    columns = zip(*(tail.tolist() for tail in tails), strict=False)
    return sum(1 for _ in takewhile(lambda each: len(set(each)) == 1 and each[0] != marker_id, columns))
