"""Pictures of handwritten digits: scikit-learn's digits (`Digits`), layouts, and sets of `Pictures`.

load_digits ─┬─ training_digits ─┬─▶ make_pictures ─▶ encode_pictures (draw, encode_png) ─▶ PNG bytes
             └─ held_out_digits ─┘
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

HELD_OUT_EVERY = 6  # every 6th digit is reserved for the benchmark
AMBIGUITY_RANGE = (0.3, 4.0)  # of a digit, before dividing by the mean

SIDE = 56  # width and height of a picture, pixels
PAPER, LINE, BAR = 255, 170, 120  # grey levels
INK_STEP = 15  # grey levels per unit of a digit's ink (0 … 16)

Canvas = NDArray[np.uint8]


DIFFICULTY_SPREAD = 2.0  # standard deviation of log difficulty: most questions are easy, a few too hard


@dataclass(frozen=True)
class Digits:
    """A set of n handwritten digits, as columns."""

    index: NDArray[np.int64]  # (n,) row in scikit-learn's data set
    pixels: NDArray[np.uint8]  # (n, 8, 8), 0 = paper … 16 = ink
    labels: NDArray[np.int16]  # (n,) 0 … 9
    lookalikes: NDArray[np.int16]  # (n,) the other digit that this one resembles most
    ambiguity: NDArray[np.float32]  # (n,) factor of the chance to misread it; mean 1 over all digits

    def take(self, rows: NDArray[np.bool_]) -> "Digits":
        """Return the digits where ``rows``, bool (n,), is true."""
        return Digits(
            self.index[rows],
            self.pixels[rows],
            self.labels[rows],
            self.lookalikes[rows],
            self.ambiguity[rows],
        )


@cache
def load_digits() -> Digits:
    """Return all digits of scikit-learn's data set.

    A digit is the more ambiguous the nearer it is to the mean image of another digit, relative to its own.
    """
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
    """Return the digits for the shards and for the training of the demo's backbone."""
    digits = load_digits()
    return digits.take(digits.index % HELD_OUT_EVERY != 0)


def held_out_digits() -> Digits:
    """Return the digits that only the benchmark shows."""
    digits = load_digits()
    return digits.take(digits.index % HELD_OUT_EVERY == 0)


@dataclass(frozen=True)
class Layout:
    """The positions of the cells in a picture; each cell has one digit."""

    name: str
    scale: int  # pixels per digit pixel
    corners: tuple[tuple[int, int], ...]  # (x, y) of each cell's digit before its shift, pixels
    slack: tuple[int, int]  # largest shift of a digit to the right and down, pixels
    decorate: Callable[[Canvas, NDArray[np.int16]], None]  # draws lines or bars, given the digits' values

    @property
    def num_cells(self) -> int:
        """Return the number of digits in a picture."""
        return len(self.corners)


def _no_decoration(canvas: Canvas, values: NDArray[np.int16]) -> None:
    pass


def _lines_of_2_by_2(canvas: Canvas, values: NDArray[np.int16]) -> None:
    canvas[SIDE // 2, :] = LINE
    canvas[:, SIDE // 2] = LINE


def _lines_of_2_by_3(canvas: Canvas, values: NDArray[np.int16]) -> None:
    canvas[SIDE // 2, :] = LINE
    canvas[:, (18, 37)] = LINE


def _line_between_rows(canvas: Canvas, values: NDArray[np.int16]) -> None:
    canvas[SIDE // 2, :] = LINE


def _bars(canvas: Canvas, values: NDArray[np.int16]) -> None:
    for column, value in enumerate(values.tolist()):
        left = 19 * column + 4
        canvas[36 - 3 * value - 1 : 36, left : left + 10] = BAR


GRID = Layout("grid", 3, ((0, 0), (28, 0), (0, 28), (28, 28)), (4, 4), _no_decoration)
TABLE = Layout("table", 3, ((1, 1), (30, 1), (1, 30), (30, 30)), (2, 2), _lines_of_2_by_2)
WIDE_TABLE = Layout(
    "wide_table", 2, ((1, 2), (20, 2), (39, 2), (1, 31), (20, 31), (39, 31)), (1, 8), _lines_of_2_by_3
)
NUMBERS = Layout("numbers", 3, ((2, 1), (28, 1), (2, 30), (28, 30)), (2, 2), _line_between_rows)
CHART = Layout("chart", 2, ((1, 38), (20, 38), (39, 38)), (1, 2), _bars)


def digit_boxes(layout: Layout, shifts: NDArray[np.int64]) -> list[tuple[slice, slice]]:
    """Return the (rows, columns) of each digit in a picture; ``shifts`` (cells, 2) has x before y, pixels."""
    side = 8 * layout.scale
    corners = np.asarray(layout.corners) + shifts
    return [(slice(y, y + side), slice(x, x + side)) for x, y in corners.tolist()]


def draw(
    layout: Layout, pixels: NDArray[np.uint8], values: NDArray[np.int16], shifts: NDArray[np.int64]
) -> Canvas:
    """Draw a grey picture.

    Args:
        layout: The positions of the digits.
        pixels: The digits, (cells, 8, 8); they are enlarged and otherwise unchanged.
        values: Their values, (cells,).
        shifts: Their shifts, (cells, 2), x before y.

    Returns:
        A picture, uint8 (56, 56).
    """
    canvas = np.full((SIDE, SIDE), PAPER, np.uint8)
    layout.decorate(canvas, values)
    for digit, box in zip(pixels, digit_boxes(layout, shifts), strict=True):
        canvas[box] = PAPER - INK_STEP * digit.repeat(layout.scale, axis=0).repeat(layout.scale, axis=1)
    return canvas


def encode_png(canvas: Canvas) -> bytes:
    """Return ``canvas`` as the bytes of a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, format="PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Pictures:
    """A set of n pictures of one layout, not drawn yet."""

    layout: Layout
    digits: Digits  # the digits that ``cells`` refers to
    cells: NDArray[np.int64]  # (n, cells), rows of ``digits``
    shifts: NDArray[np.int64]  # (n, cells, 2), x and y shift of each digit inside its cell, pixels
    difficulty: NDArray[np.float32]  # (n,), expected value 1, multiplies each chance of a mistake

    def __len__(self) -> int:
        return len(self.cells)


def make_pictures(layout: Layout, digits: Digits, n: int, rng: np.random.Generator) -> Pictures:
    """Return ``n`` pictures with random digits, shifts and difficulties."""
    cells = rng.integers(len(digits.index), size=(n, layout.num_cells))
    shifts = np.stack([rng.integers(slack + 1, size=cells.shape) for slack in layout.slack], axis=-1)
    spread = DIFFICULTY_SPREAD
    difficulty = rng.lognormal(-(spread**2) / 2, spread, size=n).astype(np.float32)
    return Pictures(layout, digits, cells, shifts, difficulty)


def picture_path(folder: str, number: int) -> str:
    """Return the path of a picture relative to the corpus, which is the ``image`` of its records."""
    return f"images/{folder}/{number:06d}.png"


def encode_pictures(pictures: Pictures, folder: str) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the PNG bytes of each picture."""
    for number, (cells, shifts) in enumerate(zip(pictures.cells, pictures.shifts, strict=True)):
        digits = pictures.digits
        canvas = draw(pictures.layout, digits.pixels[cells], digits.labels[cells], shifts)
        yield picture_path(folder, number), encode_png(canvas)
