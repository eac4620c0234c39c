"""A stochastic solver of questions about pictures, which makes mistakes and fixes some.

All rows are solved together, as columns.  What a prefix leaves behind is its `State`; a continuation is the
same solver, started from that state, so that Monte-Carlo annotation samples from the very same distribution.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bisieve.synthetic.pictures import Pictures
from bisieve.synthetic.tasks import Column, Kind, Slot, Step, Task, Values

MAX_CHANCE = 0.9  # of a mistake in one slot, however hard the question
LOOKALIKE_SHARE = 0.6  # of the misread digits; the others are taken for any digit
SLIPS = np.array([-2, -1, -1, 1, 1, 2], np.int16)  # of a wrong sum or a wrong copy
RELATIVE_CHANCE = {Kind.READ: 1.0, Kind.COMPUTE: 0.6, Kind.COPY: 0.2}

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Questions:
    """One question a row; the rows of one question's rollouts are equal."""

    picture: NDArray[np.int64]
    variant: NDArray[np.int64]
    difficulty: NDArray[np.float32]  # of the question
    ambiguity: tuple[NDArray[np.float32], ...]  # of every digit it needs, in reading order
    lookalikes: tuple[Column, ...]  # what every such digit is most easily taken for
    given: Values  # the true digits "seen0", …, and "limit"
    truth: Values  # every slot of the right solution

    def __len__(self) -> int:
        return len(self.picture)

    def take(self, rows: NDArray[np.int64]) -> "Questions":
        """The questions at ``rows``, which may repeat."""
        return Questions(
            self.picture[rows],
            self.variant[rows],
            self.difficulty[rows],
            tuple(column[rows] for column in self.ambiguity),
            tuple(column[rows] for column in self.lookalikes),
            {name: column[rows] for name, column in self.given.items()},
            {name: column[rows] for name, column in self.truth.items()},
        )


def ask(task: Task, pictures: Pictures, picture: NDArray[np.int64], variant: NDArray[np.int64]) -> Questions:
    """The questions of ``task`` about the pictures numbered ``picture``, asked in the given variants."""
    cells_read = np.array([v.cells for v in task.variants])[variant]
    digits = np.take_along_axis(pictures.cells[picture], cells_read, axis=1)
    limits = np.array([v.limit for v in task.variants], np.int16)
    labels = pictures.digits.labels[digits]
    given = {f"seen{i}": labels[:, i] for i in range(labels.shape[1])} | {"limit": limits[variant]}
    return Questions(
        picture,
        variant,
        pictures.difficulty[picture],
        tuple(pictures.digits.ambiguity[digits].T),
        tuple(pictures.digits.lookalikes[digits].T),
        given,
        _right_solution(task, given),
    )


def _right_solution(task: Task, given: Values) -> Values:
    values = dict(given)
    truth: Values = {}
    for step in task.steps:
        for slot in step.slots:
            truth[slot.name] = values[slot.name] = slot.ideal(values)
    return truth


@dataclass(frozen=True)
class Solver:
    """How good the solver is."""

    mistake_rate: float = (
        0.028  # chance to misread a digit of mean ambiguity in a question of mean difficulty
    )
    mend_rate: float = 0.005  # chance, each step, to notice that an earlier step was wrong and to mend it


@dataclass
class State:
    """What the solver believes after a prefix; changed in place by `take_step`."""

    values: Values  # the question's given values and every slot stated so far, mended where it was mended
    flawed: Flags  # rows whose prefix holds an unmended mistake

    def take(self, rows: NDArray[np.int64]) -> "State":
        """A copy of the state of ``rows``, which may repeat."""
        return State({name: column[rows] for name, column in self.values.items()}, self.flawed[rows])


def start(questions: Questions) -> State:
    """The state of an empty prefix."""
    return State(dict(questions.given), np.zeros(len(questions), np.bool_))


def take_step(
    task: Task, number: int, questions: Questions, state: State, solver: Solver, rng: np.random.Generator
) -> NDArray[np.int64]:
    """States step ``number`` in every row; returns the rows that mended what was wrong before it."""
    mended = np.empty(0, np.int64)
    if 0 < number < len(task.steps) - 1:  # the final answer only says what was found
        flawed = np.flatnonzero(state.flawed)
        mended = flawed[rng.random(len(flawed)) < solver.mend_rate]
        _mend(task.steps[:number], mended, questions, state)
    for slot in task.steps[number].slots:
        _fill(slot, questions, state, solver, rng)
    return mended


def _mend(stated: tuple[Step, ...], rows: NDArray[np.int64], questions: Questions, state: State) -> None:
    if len(rows) == 0:
        return
    for step in stated:
        for slot in step.slots:
            column = state.values[slot.name].copy()
            column[rows] = questions.truth[slot.name][rows]
            state.values[slot.name] = column
    state.flawed[rows] = False


def _fill(slot: Slot, questions: Questions, state: State, solver: Solver, rng: np.random.Generator) -> None:
    ideal = slot.ideal(state.values)
    chance = questions.difficulty * np.float32(solver.mistake_rate * RELATIVE_CHANCE[slot.kind])
    if slot.kind is Kind.READ:
        chance = chance * questions.ambiguity[slot.cell]
    wrong = np.flatnonzero(rng.random(len(ideal), np.float32) < np.minimum(chance, np.float32(MAX_CHANCE)))
    if len(wrong):
        said = ideal.copy()
        if slot.kind is Kind.READ:
            said[wrong] = _misread(ideal[wrong], questions.lookalikes[slot.cell][wrong], rng)
        else:
            said[wrong] = _slip(ideal[wrong], rng)
        state.flawed[wrong] = True
        state.values[slot.name] = said
    else:
        state.values[slot.name] = ideal


def _misread(digits: Column, lookalikes: Column, rng: np.random.Generator) -> Column:
    others = (digits + rng.integers(1, 10, len(digits))) % 10
    return np.where(rng.random(len(digits)) < LOOKALIKE_SHARE, lookalikes, others).astype(np.int16)


def _slip(values: Column, rng: np.random.Generator) -> Column:
    slipped = values + rng.choice(SLIPS, len(values))
    return np.where(slipped < 0, values + 1, slipped).astype(np.int16)
