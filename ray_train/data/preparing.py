"""From samples with stored images to tensors: what a data worker does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ray_train.data.encoding import Batch, Encoder, Sample
from ray_train.data.prompt_tokens import PromptReader, PromptTokens
from ray_train.data.stored_image import StoredImage


@dataclass(frozen=True)
class Preparation:
    """Decodes images, then encodes: a prompt for a pack, or a batch of rows."""

    encoder: Encoder
    reader: PromptReader | None  # where packs are made

    def __call__(self, part: tuple[bool, Sequence[Sample]]) -> tuple[bool, PromptTokens | Batch]:
        """``part`` with its samples prepared; `ImageError` for an image that cannot be decoded."""
        last, samples = part
        decoded = _decoded(samples)
        return last, self.reader.read(decoded) if self.reader else self.encoder.encode(decoded)


def _decoded(samples: Sequence[Sample]) -> list[Sample]:
    """``samples`` with pixels, each image being decoded once."""
    images = {id(image): image for sample in samples for image in sample.images}
    pixels = {
        key: image.decode() if isinstance(image, StoredImage) else image for key, image in images.items()
    }
    return [replace(sample, images=[pixels[id(image)] for image in sample.images]) for sample in samples]
