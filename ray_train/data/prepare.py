"""Prepare samples in a data worker: decode images, tokenize, and name the image of a failure.

`Preparation` is the work itself. Processors do not say which image they cannot process, so `refusals_named`
and `refusal` find it by processing each image alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from bisieve.errors import BisieveError, ImageError
from ray_train.data.encode import Encoder, Sample
from ray_train.data.images import StoredImage
from ray_train.data.packing import PromptReader, PromptTokens
from ray_train.data.prompt_memory import PromptMemory
from ray_train.model.batch import Batch

Prepared = PromptTokens | Batch


@dataclass(frozen=True)
class Preparation:
    """Callable that decodes images and encodes samples: one prompt's for a pack, or a batch of rows."""

    encoder: Encoder
    reader: PromptReader | None  # None: rows, no packs
    skip_broken: bool = False  # leave out samples with a broken image instead of raising
    memory: PromptMemory | None = None  # prompts prepared before, in this process; with a reader only

    def __call__(self, part: tuple[bool, Sequence[Sample]]) -> tuple[bool, Prepared]:
        """Prepare the samples of a part.

        Args:
            part: whether it is the last part of its step, and its samples (of one prompt, with a reader).

        Returns:
            The same flag, and `PromptTokens` if ``reader`` is set, else a `Batch`.

        Raises:
            ImageError: an image cannot be decoded or processed, and ``skip_broken`` is off.
        """
        last, samples = part
        if self.skip_broken:
            return last, self._without_broken(samples)
        if self.memory is not None and (kept := self.memory.get(samples)) is not None:
            return last, kept
        pixels = {id(image): _pixels(image) for image in _images(samples)}
        decoded = _decoded(samples, pixels)
        names = [[f"{_name(image)} of rollout {s.name}" for image in s.images] for s in samples]
        with refusals_named(self.encoder, decoded, names):
            prepared = self._encoded(decoded)
        if self.memory is not None and isinstance(prepared, PromptTokens):
            self.memory.keep(samples, prepared)
        return last, prepared

    def _encoded(self, samples: Sequence[Sample]) -> Prepared:
        return self.reader.read(samples) if self.reader else self.encoder.encode(samples)

    def _without_broken(self, samples: Sequence[Sample]) -> Prepared:
        """Return ``samples`` prepared, without those that have a broken image, which ``broken`` names."""
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
        except Exception:  # from the processor, which does not say which image caused it
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
    """Return each image object of ``samples`` once."""
    return list({id(image): image for sample in samples for image in sample.images}.values())


def _pixels(image: Any) -> Any:
    return image.decode() if isinstance(image, StoredImage) else image


def _name(image: Any) -> str:
    return str(getattr(image, "name", "an image"))


def _decoded(samples: Sequence[Sample], pixels: dict[int, Any]) -> list[Sample]:
    """Return ``samples`` with decoded images, without those that have an image not in ``pixels``.

    The keys of ``pixels`` are the ``id`` of an image.
    """
    return [
        replace(sample, images=[pixels[id(image)] for image in sample.images])
        for sample in samples
        if all(id(image) in pixels for image in sample.images)
    ]


@contextmanager
def refusals_named(
    encoder: Encoder, samples: Sequence[Sample], names: Sequence[Sequence[str]]
) -> Iterator[None]:
    """Turn a failure to encode ``samples`` in the block into an `ImageError` that names the image.

    Args:
        encoder: the encoder used in the block.
        samples: with decoded images.
        names: for each sample a description of each of its images, for the error.

    Raises:
        ImageError: the processor fails for an image even when that is processed alone.
        Exception: any other failure, unchanged.
    """
    try:
        yield
    except BisieveError:
        raise
    except Exception as error:  # processors raise any type, and do not say for which image
        for sample, of_sample in zip(samples, names, strict=True):
            for number, name in enumerate(of_sample):
                _try_alone(encoder, sample, number, name)
        raise error


def _try_alone(encoder: Encoder, sample: Sample, number: int, name: str) -> None:
    error = refusal(encoder, sample.images[number], len(sample.images))
    if error is not None:
        raise ImageError(
            f"an image that the backbone's processor accepts as {name}",
            reason(error),
            "replace it with one of another size or aspect ratio, then run the same command again",
        ) from error


def refusal(encoder: Encoder, image: Any, num_images: int) -> Exception | None:
    """Return the exception that the processor raises for ``image`` alone; None if it raises none.

    ``num_images`` is the number of images of its rollout, on which the options of the processor depend.
    """
    options, slot = encoder.format.options_for(num_images), encoder.format.image_slot
    try:
        encoder.processor(images=[[image]], text=[slot], return_tensors="pt", **options)
    except Exception as error:
        return error
    return None


def reason(error: Exception) -> str:
    """Return the text of ``error`` in one line of up to 200 characters, or the name of its class."""
    return " ".join(str(error).split())[:200] or type(error).__name__
