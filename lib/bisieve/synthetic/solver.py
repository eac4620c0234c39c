"""The stochastic solver: it follows a task's plan, makes mistakes, and now and then mends them.

All rows are solved together, as columns.  What a prefix leaves behind is its `State`; a continuation is the
same solver, started from that state, so that Monte-Carlo annotation samples from the very same distribution.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bisieve.corpus.questions import Questions
from bisieve.corpus.tasks import Column, Kind, Slot, Step, Task, Values

MAX_CHANCE = 0.9  # of a mistake in one slot, however hard the question
LOOKALIKE_SHARE = 0.6  # of the misread digits; the others are taken for any digit
SLIPS = np.array([-2, -1, -1, 1, 1, 2], np.int16)  # of a wrong sum or a wrong copy
RELATIVE_CHANCE = {Kind.READ: 1.0, Kind.COMPUTE: 0.6, Kind.COPY: 0.2}

Flags = NDArray[np.bool_]


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
