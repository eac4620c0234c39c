"""Prepare samples in a data worker: decode images, tokenize, name an image that is refused."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from bisieve.errors import BisieveError, ImageError
from ray_train.data.encode import Encoder, Sample
from ray_train.data.image_cache import StoredImage
from ray_train.data.packing import PromptReader, PromptTokens
from ray_train.model.batch import Batch

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


@contextmanager
def refusals_named(
    encoder: Encoder, samples: Sequence[Sample], names: Sequence[Sequence[str]]
) -> Iterator[None]:
    """Where encoding ``samples`` fails for one of their images, an `ImageError` that says which.

    ``names`` tell of each sample's images, and whose they are.  What fails otherwise is raised as it is.
    """
    try:
        yield
    except BisieveError:
        raise
    except Exception as error:  # processors raise what they like, and do not say for which image
        for sample, of_sample in zip(samples, names, strict=True):
            for number, name in enumerate(of_sample):
                _try_alone(encoder, sample, number, name)
        raise error


def _try_alone(encoder: Encoder, sample: Sample, number: int, name: str) -> None:
    error = refusal(encoder, sample.images[number], len(sample.images))
    if error is not None:
        raise ImageError(
            f"an image that the backbone's processor takes in {name}",
            reason(error),
            "write one of another shape under that name, then run the same command again",
        ) from error


def refusal(encoder: Encoder, image: Any, num_images: int) -> Exception | None:
    """Return what the processor raises for ``image``, one of ``num_images`` of its rollout; or None."""
    options, slot = encoder.format.options_for(num_images), encoder.format.image_slot
    try:
        encoder.processor(images=[[image]], text=[slot], return_tensors="pt", **options)
    except Exception as error:
        return error
    return None


def reason(error: Exception) -> str:
    """Return the text of ``error`` in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
