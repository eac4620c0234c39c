"""Text for people: numbers with nouns, reports with tables, and suggestions for a typo."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

WIDTH = 100  # most columns of what is printed
_INDENT = "    "  # of what continues a line
_LONG = 60  # characters of a word that is no word
_SAID = 500  # most characters of what another library says: some name the cause last
_CLAUSE, _PHRASE = re.compile(r"(?<=[;.]) "), re.compile(r"(?<=[,:]) ")  # where a line may end


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 step", "0 steps" or "12,000 steps"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def one_line(said: str | BaseException) -> str:
    """Return a text, or what an error says, as one line of at most 500 characters.

    An error without a message gives the name of its type.
    """
    line = " ".join(str(said).split())[:_SAID]
    return line or ("" if isinstance(said, str) else type(said).__name__)


def rounded(number: float) -> str:
    """Return an estimate in three significant digits, such as "205,000", "27.5" or "0.012"."""
    value = float(f"{number:.3g}")
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(share: float) -> str:
    """Return a share as a percentage of up to four digits, such as "10%" or "0.25%"."""
    return f"{100 * share:.4g}%"


@dataclass(frozen=True)
class Table:
    """A table whose first column is a name, and whose others are mostly numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        return "\n".join(aligned([self.head, *self.rows]))


class Quoted(str):
    """Text of a corpus in a `Report`, which is shown as it is."""


@dataclass(frozen=True)
class Graded:
    """A text behind a label that a terminal colours by a share: 0 is wrong, 1 is right."""

    label: str
    share: float  # in [0, 1]
    text: str

    def __str__(self) -> str:
        return f"{self.label}  {self.text}"


class Report(str):
    """Text that knows its tables and colours, so that a terminal can show them (`console.show`)."""

    blocks: tuple[str | Table | Graded, ...]

    def __new__(cls, *blocks: str | Table | Graded) -> "Report":
        """Make the text of all ``blocks``, each of one line or more; sentences are broken by `clauses`."""
        report = super().__new__(cls, "\n".join(map(_plain, blocks)))
        report.blocks = blocks
        return report


def _plain(block: str | Table | Graded) -> str:
    is_ours = isinstance(block, str) and not isinstance(block, Quoted)
    return clauses(str(block)) if is_ours else str(block)


def wrapped(text: str, columns: int) -> list[str]:
    """Return the lines of a text in ``columns``; the rest of a line is indented.

    A word that is wider than the terminal, such as a URL, stays whole, so that it can be copied.
    """
    return [
        part
        for line in text.splitlines() or [""]
        for part in textwrap.wrap(
            line, columns, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        )
        or [""]
    ]


def clauses(text: str) -> str:
    """Return a text with each line that is too wide continued on the next one, behind a punctuation mark.

    That is a semicolon or a full stop, and a comma or a colon only where else a line would still be too wide:
    so a search finds most statements whole. Paths and URLs do not count, else where a line ends would depend
    on them.
    """
    lines = text.split("\n")
    for mark in (_CLAUSE, _PHRASE):
        lines = [part for line in lines for part in _broken(line, mark)]
    return "\n".join(lines)


def _broken(line: str, mark: re.Pattern[str]) -> list[str]:
    if width_without_paths(line) <= WIDTH:
        return [line]
    first, *others = mark.split(line)
    lines = [first]
    for part in others:
        joined, alone = f"{lines[-1]} {part}", _INDENT + part
        if width_without_paths(joined) > WIDTH >= width_without_paths(alone):
            lines.append(alone)
        else:  # also a part that would be too wide on a line of its own
            lines[-1] = joined
    return lines


def width_without_paths(line: str) -> int:
    """Return the columns of a line without its paths, URLs and other words of that length."""
    return len(" ".join(word for word in line.split(" ") if "/" not in word and len(word) <= _LONG))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return one line per row, with the first column aligned left and the others right.

    All rows have the same number of cells. Columns are two spaces apart, or one where it is too wide else.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else " "
    return [
        gap.join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for row in rows
    ]


def aligned_left(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return one line per pair of texts; the second ones begin in the same column."""
    width = max(len(first) for first, _ in rows)
    return [f"{first.ljust(width)}  {second}" for first, second in rows]


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return "did you mean X?" for the name most similar to ``given``, or "" if none is similar."""
    bare = {name.lstrip("-"): name for name in known}
    close = get_close_matches(given.lstrip("-"), list(bare), n=1)
    return f"did you mean {bare[close[0]]}?" if close else ""
