"""An image that can be decoded and that the backbone's processor does not take, such as a very narrow one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bisieve.errors import BisieveError, ImageError
from ray_train.data.encoding import Encoder, Sample


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
