"""The task families: questions about pictures, and for each a plan that answers it step by step.

A plan is a list of steps; a step states the values of its slots. A slot's *ideal* value follows from the
values stated before it, right or wrong, so a mistake affects all later values that depend on it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from bisieve.synthetic.pictures import CHART, GRID, NUMBERS, TABLE, WIDE_TABLE, Layout

Column = NDArray[np.int16]  # one value per rollout
# By slot name; "seen0", "seen1", … are the true digits, "limit" is the number in the question.
Values = dict[str, Column]


class Kind(Enum):
    """How a slot's value is obtained, which decides the mistakes it can have."""

    READ = "read"
    COMPUTE = "compute"
    COPY = "copy"


@dataclass(frozen=True)
class Slot:
    """A number that a step states."""

    name: str
    kind: Kind
    ideal: Callable[[Values], Column]  # its value if no new mistake is made
    cell: int = -1  # READ only: which of the digits that the question reads, from 0


@dataclass(frozen=True)
class Step:
    """A step: a sentence; braces hold the names of its slots, or of `Task.words`."""

    sentence: str
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Variant:
    """A way to ask a task's question."""

    cells: tuple[int, ...]  # cells of the layout, in reading order
    word: str = ""  # fills {word}
    limit: int = 0  # fills {limit}


@dataclass(frozen=True)
class Task:
    """A task family, which is a source of the corpus."""

    name: str
    share: float  # of all rollouts, in (0, 1]
    layout: Layout
    question: str
    variants: tuple[Variant, ...]
    places: tuple[str, ...]  # what the text calls each cell of a variant; may contain {word}
    orders: tuple[tuple[int, ...], ...]  # in which the cells can be read; the first is that of the variant
    steps: tuple[Step, ...]  # the last one is the final answer, in the slot "answer"

    def words(self, variants: list[int], orders: list[int]) -> dict[str, list[str]]:
        """Return the text of {word}, {place0}, {place1}, … for each row.

        Args:
            variants: The variant of each row's question, a number.
            orders: The order in which each row reads the cells, a number.
        """
        said = {
            (variant, order): [self.places[cell].format(word=self.variants[variant].word) for cell in cells]
            for variant in range(len(self.variants))
            for order, cells in enumerate(self.orders)
        }
        places = [said[row] for row in zip(variants, orders, strict=True)]
        columns = {f"place{number}": [row[number] for row in places] for number in range(len(self.places))}
        return columns | {"word": [self.variants[variant].word for variant in variants]}


def _read(name: str, cell: int) -> Slot:
    return Slot(name, Kind.READ, lambda values: values[f"seen{cell}"], cell)


def _copy(name: str, of: str) -> Slot:
    return Slot(name, Kind.COPY, lambda values: values[of])


def _compute(name: str, ideal: Callable[[Values], Column]) -> Slot:
    return Slot(name, Kind.COMPUTE, ideal)


def _add(name: str, left: str, right: str) -> Slot:
    return _compute(name, lambda values: values[left] + values[right])


def _read_and_add(cell: int, digit: str, total: str, before: str) -> Step:
    return Step(
        f"{{place{cell}}} is {{{digit}}} and {{{before}_}} + {{{digit}}} = {{{total}}}.",
        (_read(digit, cell), _copy(f"{before}_", before), _add(total, f"{before}_", digit)),
    )


def _read_and_count(cell: int, digit: str, count: str, before: str | None) -> Step:
    def ideal(values: Values) -> Column:
        exceeds = (values[digit] > values["limit"]).astype(np.int16)
        return exceeds if before is None else values[before] + exceeds

    return Step(
        f"{{place{cell}}} is {{{digit}}}, so I count {{{count}}}.",
        (_read(digit, cell), _compute(count, ideal)),
    )


def _final(of: str) -> Step:
    return Step("Final answer: {answer}", (_copy("answer", of),))


CORNERS = ("The top left digit", "The top right digit", "The bottom left digit", "The bottom right digit")
ANY_OF_THREE, ANY_OF_FOUR = tuple(permutations(range(3))), tuple(permutations(range(4)))
UPPER_OR_LOWER_FIRST = ((0, 1, 2, 3), (2, 3, 0, 1))  # of two rows with two cells each

GRID_SUM = Task(
    name="grid_sum",
    share=0.50,
    layout=GRID,
    question="What is the sum of the four digits in the grid?",
    variants=(Variant((0, 1, 2, 3)),),
    places=CORNERS,
    orders=ANY_OF_FOUR,
    steps=(
        Step("{place0} is {a}.", (_read("a", 0),)),
        _read_and_add(1, "b", "ab", "a"),
        _read_and_add(2, "c", "abc", "ab"),
        _read_and_add(3, "d", "abcd", "abc"),
        _final("abcd"),
    ),
)

ROW_TOTAL = Task(
    name="row_total",
    share=0.20,
    layout=WIDE_TABLE,
    question="What is the total of the {word} row of the table?",
    variants=(Variant((0, 1, 2), "upper"), Variant((3, 4, 5), "lower")),
    places=("The first {word} digit", "The second {word} digit", "The third {word} digit"),
    orders=ANY_OF_THREE,
    steps=(
        Step("{place0} is {a}.", (_read("a", 0),)),
        _read_and_add(1, "b", "ab", "a"),
        _read_and_add(2, "c", "abc", "ab"),
        _final("abc"),
    ),
)

ROW_DIFFERENCE = Task(
    name="row_difference",
    share=0.14,
    layout=TABLE,
    question="By how much do the totals of the two rows of the table differ?",
    variants=(Variant((0, 1, 2, 3)),),
    places=("upper", "upper", "lower", "lower"),
    orders=UPPER_OR_LOWER_FIRST,
    steps=(
        Step("The {place0} row holds {a} and {b}.", (_read("a", 0), _read("b", 1))),
        Step(
            "The {place0} row adds up to {a_} + {b_} = {ab}.",
            (_copy("a_", "a"), _copy("b_", "b"), _add("ab", "a_", "b_")),
        ),
        Step("The {place2} row holds {c} and {d}.", (_read("c", 2), _read("d", 3))),
        Step(
            "The {place2} row adds up to {c_} + {d_} = {cd}.",
            (_copy("c_", "c"), _copy("d_", "d"), _add("cd", "c_", "d_")),
        ),
        Step(
            "The totals {ab_} and {cd_} differ by {gap}.",
            (
                _copy("ab_", "ab"),
                _copy("cd_", "cd"),
                _compute("gap", lambda values: abs(values["ab_"] - values["cd_"])),
            ),
        ),
        _final("gap"),
    ),
)

COUNT_ABOVE = Task(
    name="count_above",
    share=0.09,
    layout=GRID,
    question="How many digits in the grid are greater than {limit}?",
    variants=tuple(Variant((0, 1, 2, 3), limit=limit) for limit in (3, 4, 5)),
    places=CORNERS,
    orders=ANY_OF_FOUR,
    steps=(
        _read_and_count(0, "a", "in_1", None),
        _read_and_count(1, "b", "in_2", "in_1"),
        _read_and_count(2, "c", "in_3", "in_2"),
        _read_and_count(3, "d", "in_4", "in_3"),
        _final("in_4"),
    ),
)

BAR_RANGE = Task(
    name="bar_range",
    share=0.05,
    layout=CHART,
    question="How much higher is the highest bar of the chart than the lowest one?",
    variants=(Variant((0, 1, 2)),),
    places=("left", "middle", "right"),
    orders=ANY_OF_THREE,
    steps=(
        Step("The {place0} bar is {a} high.", (_read("a", 0),)),
        Step("The {place1} bar is {b} high.", (_read("b", 1),)),
        Step("The {place2} bar is {c} high.", (_read("c", 2),)),
        Step(
            "The highest bar is {top} high and the lowest is {low} high.",
            (
                _compute("top", lambda values: np.maximum(np.maximum(values["a"], values["b"]), values["c"])),
                _compute("low", lambda values: np.minimum(np.minimum(values["a"], values["b"]), values["c"])),
            ),
        ),
        Step(
            "The difference is {top_} - {low_} = {gap}.",
            (
                _copy("top_", "top"),
                _copy("low_", "low"),
                _compute("gap", lambda values: values["top_"] - values["low_"]),
            ),
        ),
        _final("gap"),
    ),
)

NUMBER_SUM = Task(
    name="number_sum",
    share=0.02,
    layout=NUMBERS,
    question="What is the sum of the upper and the lower number?",
    variants=(Variant((0, 1, 2, 3)),),
    places=("upper", "upper", "lower", "lower"),
    orders=UPPER_OR_LOWER_FIRST,
    steps=(
        Step("The {place0} number has the digits {a} and {b}.", (_read("a", 0), _read("b", 1))),
        Step("The {place2} number has the digits {c} and {d}.", (_read("c", 2), _read("d", 3))),
        Step(
            "The ones add up to {b_} + {d_} = {bd}.",
            (_copy("b_", "b"), _copy("d_", "d"), _add("bd", "b_", "d_")),
        ),
        Step(
            "The tens add up to {a_} + {c_} = {ac}.",
            (_copy("a_", "a"), _copy("c_", "c"), _add("ac", "a_", "c_")),
        ),
        Step(
            "Together {ac_} tens and {bd_} ones make {sum}.",
            (
                _copy("ac_", "ac"),
                _copy("bd_", "bd"),
                _compute("sum", lambda values: 10 * values["ac_"] + values["bd_"]),
            ),
        ),
        _final("sum"),
    ),
)

TASKS = (GRID_SUM, ROW_TOTAL, ROW_DIFFERENCE, COUNT_ABOVE, BAR_RANGE, NUMBER_SUM)
