"""The blocks that a report is made of, and numbers as their text; `html.render` makes a file of a `Page`.

Every text is plain text: it is escaped when the page is rendered, so text of a corpus can be given as it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Spec: TypeAlias = dict[str, Any]  # a Vega-Lite specification
Cell: TypeAlias = str | int | float | None
Form = Literal["text", "figure", "count", "number", "percent"]  # figure: text, aligned like a number
Mood = Literal["good", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """A sentence with its numbers, marked by whether it needs attention."""

    mood: Mood
    title: str
    text: str


@dataclass(frozen=True)
class Findings:
    """The findings of a page, the most important first."""

    findings: Sequence[Finding]


@dataclass(frozen=True)
class Note:
    """A paragraph; with ``is_small`` one that explains how a number was made."""

    text: str
    is_small: bool = False


@dataclass(frozen=True)
class Tile:
    """One number in large type, with what it was before, if anything."""

    label: str
    value: str
    before: str = ""
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    """Numbers side by side."""

    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite specification with its title; its colours should be those of `charts.COLOURS`."""

    title: str
    spec: Spec
    note: str = ""


@dataclass(frozen=True)
class Charts:
    """Charts side by side where the page is wide enough, else below each other."""

    charts: Sequence[Chart]


@dataclass(frozen=True)
class Column:
    """A column of a table: its title, and how its cells are written."""

    title: str
    form: Form = "text"


@dataclass(frozen=True)
class Table:
    """A table, which a click on a title sorts unless its order is fixed; None is an empty cell."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    is_sortable: bool = True


@dataclass(frozen=True)
class Dial:
    """One slider: its name, the labels of its positions, and where it is at first."""

    name: str
    labels: Sequence[str]
    start: int = 0


@dataclass(frozen=True)
class Dials:
    """Sliders over numbers that are computed already.

    The values of a row are those of all positions of all dials, the last dial changing fastest.
    """

    dials: Sequence[Dial]
    rows: Mapping[str, Sequence[str]]  # by label
    note: str = ""


@dataclass(frozen=True)
class Step:
    """A step of a solution."""

    text: str
    share: float | None = None  # in [0, 1], shown as a colour: 0 wrong, 1 right; None: no colour
    label: str = ""  # such as "12/16"
    mark: str = ""  # a word after the label, such as "judged wrong"
    is_mistake: bool = False  # shown at the mark


@dataclass(frozen=True)
class Card:
    """A solution with its images."""

    title: str
    facts: Mapping[str, str]
    why: str
    question: str = ""
    images: Sequence[str] = ()  # data URLs
    steps: Sequence[Step] = ()


@dataclass(frozen=True)
class Cards:
    """Solutions under a title."""

    title: str
    cards: Sequence[Card]
    note: str = ""


Block: TypeAlias = Findings | Note | Tiles | Chart | Charts | Table | Dials | Cards


@dataclass(frozen=True)
class Section:
    """A part of a page, with an entry in its contents."""

    title: str
    blocks: Sequence[Block]
    intro: str = ""


@dataclass(frozen=True)
class Page:
    """A report."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    numbers: Mapping[str, Any] = field(default_factory=dict)  # all numbers, for programs; JSON types only
    footer: str = ""

    @property
    def findings(self) -> list[Finding]:
        """Return all findings of the page, the most important first."""
        blocks = [block for section in self.sections for block in section.blocks]
        return [found for block in blocks if isinstance(block, Findings) for found in block.findings]


def share_of(part: int, whole: int) -> float | None:
    """Return ``part / whole``; None if ``whole`` is 0."""
    return part / whole if whole else None


def percent_of(part: int, whole: int) -> str:
    """Return ``part / whole`` as a percentage."""
    return f"{part / whole:.1%}" if whole else "–"


def decimal(value: float) -> str:
    """Return a number with two decimals; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def percentage(share: float) -> str:
    """Return a share as a percentage; a dash for NaN."""
    return "–" if math.isnan(share) else f"{share:.1%}"


def short(value: float) -> str:
    """Return a number from 0 on in three digits, such as "1.23 M"."""
    if 0 < value < 0.001:
        return "< 0.001"
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * size:  # which three digits write as 1
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
