"""Keep prepared prompts in memory, for a process that trains on the same rollouts several times."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ray_train.data.encode import Sample
from ray_train.data.packing import PromptTokens

Images = tuple[str, ...]  # names of the images of a rollout
Key = tuple[Images, str, tuple[tuple[str, ...], ...]]  # images, question, steps of each rollout

_FULL = 2**30  # bytes of pixels from which on no further prompt is kept


@dataclass
class PromptMemory:
    """Prepared prompts by their images, question and steps; the pixels of an image are kept once.

    It serves one backbone, prompt format and image root only.
    """

    _prompts: dict[Key, PromptTokens] = field(default_factory=dict)
    _pixels: dict[Images, dict[str, torch.Tensor]] = field(default_factory=dict)
    _bytes: int = 0

    def get(self, samples: Sequence[Sample]) -> PromptTokens | None:
        """Return the tokens of ``samples`` (of one prompt) with their own targets; None if not kept."""
        if not samples or (kept := self._prompts.get(_key(samples))) is None:
            return None
        return replace(kept, samples=[replace(sample, images=()) for sample in samples])

    def keep(self, samples: Sequence[Sample], tokens: PromptTokens) -> None:
        """Keep ``tokens``, unless steps or rollouts were left out, or the memory is full."""
        if not samples or tokens.shortened or tokens.skipped or tokens.broken or self._bytes > _FULL:
            return
        images, question, steps = _key(samples)
        if images not in self._pixels:
            self._pixels[images] = tokens.images
            self._bytes += sum(each.nbytes for each in tokens.images.values())
        self._prompts[images, question, steps] = replace(tokens, samples=[], images=self._pixels[images])


def _key(samples: Sequence[Sample]) -> Key:
    images: Any = samples[0].images  # encoded: `images.StoredImage`
    steps = tuple(tuple(sample.steps) for sample in samples)
    return tuple(image.name for image in images), samples[0].question, steps
