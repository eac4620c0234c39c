"""How digits lie in a picture of 56 × 56 pixels: grids, tables and a bar chart."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 56  # pixels
PAPER, LINE, BAR = 255, 170, 120  # grey levels
INK_STEP = 15  # grey levels a unit of a digit's ink (0 … 16)

Canvas = NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """Where the cells of a picture lie."""

    name: str
    scale: int  # pixels a digit pixel
    corners: tuple[tuple[int, int], ...]  # (x, y) of every cell's digit, before its shift
    slack: tuple[int, int]  # how far a digit may be shifted right and down
    decorate: Callable[[Canvas, NDArray[np.int16]], None]  # draws what is not a digit

    @property
    def num_cells(self) -> int:
        """Digits a picture."""
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
    """The (rows, columns) of every digit in a picture; ``shifts`` is (cells, 2), x before y."""
    side = 8 * layout.scale
    corners = np.asarray(layout.corners) + shifts
    return [(slice(y, y + side), slice(x, x + side)) for x, y in corners.tolist()]


def draw(
    layout: Layout, pixels: NDArray[np.uint8], values: NDArray[np.int16], shifts: NDArray[np.int64]
) -> Canvas:
    """A (56, 56) grey picture of ``pixels`` (cells, 8, 8): the digits enlarged, otherwise as written."""
    canvas = np.full((SIDE, SIDE), PAPER, np.uint8)
    layout.decorate(canvas, values)
    for digit, box in zip(pixels, digit_boxes(layout, shifts), strict=True):
        canvas[box] = PAPER - INK_STEP * digit.repeat(layout.scale, axis=0).repeat(layout.scale, axis=1)
    return canvas


def encode_png(canvas: Canvas) -> bytes:
    """``canvas`` as the bytes of a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, format="PNG")
    return buffer.getvalue()
