"""From samples with stored images to tensors: what a data worker does."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bisieve.errors import BisieveError, ImageError
from ray_train.data.encoding import Batch, Encoder, Sample
from ray_train.data.prompt_tokens import PromptReader, PromptTokens
from ray_train.data.refused_image import reason, refusal, refusals_named
from ray_train.data.stored_image import StoredImage

Prepared = PromptTokens | Batch


@dataclass(frozen=True)
class Preparation:
    """Decodes images, then encodes: a prompt for a pack, or a batch of rows."""

    encoder: Encoder
    reader: PromptReader | None  # where packs are made
    skip_broken: bool = False  # leave out samples with a broken image

    def __call__(self, part: tuple[bool, Sequence[Sample]]) -> tuple[bool, Prepared]:
        """``part`` with its samples prepared.

        `ImageError` for an image that cannot be decoded, or that the processor does not take, unless such
        are to be left out.
        """
        last, samples = part
        if self.skip_broken:
            return last, self._without_broken(samples)
        pixels = {id(image): _pixels(image) for image in _images(samples)}
        decoded = _decoded(samples, pixels)
        names = [[f"{_name(image)} of rollout {s.name}" for image in s.images] for s in samples]
        with refusals_named(self.encoder, decoded, names):
            return last, self._encoded(decoded)

    def _encoded(self, samples: Sequence[Sample]) -> Prepared:
        return self.reader.read(samples) if self.reader else self.encoder.encode(samples)

    def _without_broken(self, samples: Sequence[Sample]) -> Prepared:
        """Those of ``samples`` prepared that have no broken image, with the names of such images."""
        pixels: dict[int, Any] = {}
        broken: dict[str, str] = {}
        for image in _images(samples):
            try:
                pixels[id(image)] = _pixels(image)
            except ImageError as error:
                broken[_name(image)] = error.args[1]
        try:
            prepared = self._encoded(_decoded(samples, pixels))
        except BisieveError:
            raise
        except Exception:  # the processor's: it does not say for which image
            beside = {id(image): len(sample.images) for sample in samples for image in sample.images}
            whole = len(pixels)
            for image in _images(samples):
                if id(image) in pixels and (
                    refused := refusal(self.encoder, pixels[id(image)], beside[id(image)])
                ):
                    del pixels[id(image)]
                    broken[_name(image)] = reason(refused)
            if len(pixels) == whole:
                raise
            prepared = self._encoded(_decoded(samples, pixels))
        return replace(prepared, broken=broken)


def _images(samples: Iterable[Sample]) -> list[Any]:
    """Each image of ``samples`` once."""
    return list({id(image): image for sample in samples for image in sample.images}.values())


def _pixels(image: Any) -> Any:
    return image.decode() if isinstance(image, StoredImage) else image


def _name(image: Any) -> str:
    return str(getattr(image, "name", "an image"))


def _decoded(samples: Sequence[Sample], pixels: dict[int, Any]) -> list[Sample]:
    """``samples`` with pixels, without those of which an image has none."""
    return [
        replace(sample, images=[pixels[id(image)] for image in sample.images])
        for sample in samples
        if all(id(image) in pixels for image in sample.images)
    ]
