"""Formatting of text for the terminal: numbers with nouns, and aligned tables."""

from collections.abc import Sequence


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 step", "0 steps" or "12000 steps"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return one line per row, with the first column aligned left and the others right.

    All rows have the same number of cells.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]
