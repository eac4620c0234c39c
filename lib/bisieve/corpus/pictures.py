"""The pool of distinct pictures of one task family, and the files they become."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bisieve.corpus.digits import Digits
from bisieve.corpus.layouts import Layout, draw, encode_png

DIFFICULTY_SPREAD = 2.0  # of the logarithm: most questions are easy, a few are beyond the solver


@dataclass(frozen=True)
class Pictures:
    """``n`` pictures of one layout."""

    layout: Layout
    digits: Digits  # the set that ``cells`` points into
    cells: NDArray[np.int64]  # (n, cells): rows of ``digits``
    shifts: NDArray[np.int64]  # (n, cells, 2): x and y shift of every digit inside its cell
    difficulty: NDArray[np.float32]  # (n,), mean 1: multiplies every chance of a mistake

    def __len__(self) -> int:
        return len(self.cells)


def make_pictures(layout: Layout, digits: Digits, n: int, rng: np.random.Generator) -> Pictures:
    """``n`` pictures of digits drawn at random from ``digits``."""
    cells = rng.integers(len(digits.index), size=(n, layout.num_cells))
    shifts = np.stack([rng.integers(slack + 1, size=cells.shape) for slack in layout.slack], axis=-1)
    spread = DIFFICULTY_SPREAD
    difficulty = rng.lognormal(-(spread**2) / 2, spread, size=n).astype(np.float32)
    return Pictures(layout, digits, cells, shifts, difficulty)


def picture_path(folder: str, number: int) -> str:
    """Where picture ``number`` of ``folder`` lies, below the corpus: the ``image`` of its records."""
    return f"images/{folder}/{number:06d}.png"


def encode_pictures(pictures: Pictures, folder: str) -> Iterator[tuple[str, bytes]]:
    """The path and the PNG bytes of every picture, one at a time."""
    for number, (cells, shifts) in enumerate(zip(pictures.cells, pictures.shifts, strict=True)):
        digits = pictures.digits
        canvas = draw(pictures.layout, digits.pixels[cells], digits.labels[cells], shifts)
        yield picture_path(folder, number), encode_png(canvas)
