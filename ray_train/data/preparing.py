"""From samples with stored images to tensors: what a data worker does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray_train.data.encoding import Batch, Encoder, Sample
from ray_train.data.prompt_tokens import PromptReader, PromptTokens
from ray_train.data.refused_image import refusals_named
from ray_train.data.stored_image import StoredImage


@dataclass(frozen=True)
class Preparation:
    """Decodes images, then encodes: a prompt for a pack, or a batch of rows."""

    encoder: Encoder
    reader: PromptReader | None  # where packs are made

    def __call__(self, part: tuple[bool, Sequence[Sample]]) -> tuple[bool, PromptTokens | Batch]:
        """``part`` with its samples prepared.

        `ImageError` for an image that cannot be decoded, or that the processor does not take.
        """
        last, samples = part
        decoded = _decoded(samples)
        names = [[_name(image, sample) for image in sample.images] for sample in samples]
        with refusals_named(self.encoder, decoded, names):
            return last, self.reader.read(decoded) if self.reader else self.encoder.encode(decoded)


def _name(image: Any, sample: Sample) -> str:
    return f"{getattr(image, 'name', 'an image')} of rollout {sample.name}"


def _decoded(samples: Sequence[Sample]) -> list[Sample]:
    """``samples`` with pixels, each image being decoded once."""
    images = {id(image): image for sample in samples for image in sample.images}
    pixels = {
        key: image.decode() if isinstance(image, StoredImage) else image for key, image in images.items()
    }
    return [replace(sample, images=[pixels[id(image)] for image in sample.images]) for sample in samples]
