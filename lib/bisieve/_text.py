"""Words for the terminal: numbers with their nouns, and aligned tables."""

from collections.abc import Sequence


def pluralize(number: int, noun: str) -> str:
    """As "1 step", "0 steps" or "12000 steps"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line a row, the first column flush left, the others flush right; rows are equally long."""
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
