"""An image that can be decoded and that the backbone's processor does not take, such as a very narrow one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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
    images, format = [[sample.images[number]]], encoder.format
    options = format.options_for(len(sample.images))
    try:
        encoder.processor(images=images, text=[format.image_slot], return_tensors="pt", **options)
    except Exception as error:
        raise ImageError(
            f"an image that the backbone's processor takes in {name}",
            " ".join(str(error).split())[:200] or type(error).__name__,
            "write one of another shape under that name, then run the same command again",
        ) from error
