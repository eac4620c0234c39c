"""The real handwritten digits that every picture is made of (scikit-learn's 1,797), and how hard each is."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

HELD_OUT_EVERY = 6  # every 6th digit is kept for the benchmark
AMBIGUITY_RANGE = (0.3, 4.0)  # of a digit, before the mean is brought to 1


@dataclass(frozen=True)
class Digits:
    """A set of handwritten digits, as columns of equal length."""

    index: NDArray[np.int64]  # place in scikit-learn's data set
    pixels: NDArray[np.uint8]  # (n, 8, 8), 0 = paper … 16 = ink
    labels: NDArray[np.int16]  # 0 … 9
    lookalikes: NDArray[np.int16]  # the other digit that this one is most easily taken for
    ambiguity: NDArray[np.float32]  # how easily it is misread; mean 1 over all digits

    def take(self, rows: NDArray[np.bool_]) -> "Digits":
        """The digits where ``rows`` is true."""
        return Digits(
            self.index[rows],
            self.pixels[rows],
            self.labels[rows],
            self.lookalikes[rows],
            self.ambiguity[rows],
        )


@cache
def load_digits() -> Digits:
    """All digits; one that lies nearer to another digit's mean image is more ambiguous."""
    from sklearn.datasets import load_digits as load_from_sklearn

    data = load_from_sklearn()
    pixels, labels = data.images.astype(np.uint8), data.target.astype(np.int16)
    rows = np.arange(len(labels))
    means = np.stack([data.images[labels == digit].mean(axis=0) for digit in range(10)])
    distances = np.linalg.norm(data.images[:, None] - means[None], axis=(2, 3))
    own = distances[rows, labels]
    distances[rows, labels] = np.inf
    lookalikes = distances.argmin(axis=1)
    ambiguity = np.clip((own / distances[rows, lookalikes]) ** 4, *AMBIGUITY_RANGE)
    return Digits(
        rows, pixels, labels, lookalikes.astype(np.int16), (ambiguity / ambiguity.mean()).astype(np.float32)
    )


def training_digits() -> Digits:
    """The digits that shards (and the base backbone) may show."""
    digits = load_digits()
    return digits.take(digits.index % HELD_OUT_EVERY != 0)


def held_out_digits() -> Digits:
    """The digits that only the benchmark shows."""
    digits = load_digits()
    return digits.take(digits.index % HELD_OUT_EVERY == 0)
