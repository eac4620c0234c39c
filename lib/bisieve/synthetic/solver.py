"""A stochastic solver of questions about pictures, which makes mistakes and corrects some of them.

All rows are solved together, as columns. `State` is all that a prefix passes on to the next step. A
continuation runs the same solver from that state, so Monte-Carlo annotation samples from the distribution of
the rollouts themselves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bisieve.synthetic.pictures import Pictures
from bisieve.synthetic.tasks import Column, Kind, Slot, Step, Task, Values

MAX_CHANCE = 0.9  # upper bound of the chance of a mistake in one slot
LOOKALIKE_SHARE = 0.6  # of misread digits become their lookalike; the others a random other digit
SLIPS = np.array([-2, -1, -1, 1, 1, 2], np.int16)  # error of a wrong sum or copy: ±1 is twice as likely as ±2
RELATIVE_CHANCE = {Kind.READ: 1.0, Kind.COMPUTE: 0.6, Kind.COPY: 0.2}  # of a mistake, by kind of slot

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Questions:
    """Questions as columns, one per row; several rollouts of one question are equal rows."""

    picture: NDArray[np.int64]  # [rows] number of the picture
    variant: NDArray[np.int64]  # [rows] number of the variant in the task
    order: NDArray[np.int64]  # [rows] number of the task's order in which the digits are read
    difficulty: NDArray[np.float32]  # [rows] of the picture
    ambiguity: tuple[NDArray[np.float32], ...]  # [rows] for each digit that is read, in reading order
    lookalikes: tuple[Column, ...]  # [rows] for each such digit, the one that it resembles most
    given: Values  # the true digits "seen0", …, and "limit"
    truth: Values  # each slot of the right solution

    def __len__(self) -> int:
        return len(self.picture)

    def take(self, rows: NDArray[np.int64]) -> "Questions":
        """Return the questions at ``rows``, which may repeat."""
        return Questions(
            self.picture[rows],
            self.variant[rows],
            self.order[rows],
            self.difficulty[rows],
            tuple(column[rows] for column in self.ambiguity),
            tuple(column[rows] for column in self.lookalikes),
            {name: column[rows] for name, column in self.given.items()},
            {name: column[rows] for name, column in self.truth.items()},
        )


def ask(
    task: Task,
    pictures: Pictures,
    picture: NDArray[np.int64],
    variant: NDArray[np.int64],
    order: NDArray[np.int64] | None = None,
) -> Questions:
    """Return one question for each row.

    Args:
        task: The task that asks.
        pictures: The pictures to ask about.
        picture: The number of each row's picture, int64 [rows].
        variant: The number of each row's variant in ``task``, int64 [rows].
        order: The number of the order in which its digits are read, int64 [rows]; None: the first one.
    """
    order = np.zeros_like(picture) if order is None else order
    cells_read = np.array([v.cells for v in task.variants])[variant]
    cells_read = np.take_along_axis(cells_read, np.array(task.orders)[order], axis=1)
    digits = np.take_along_axis(pictures.cells[picture], cells_read, axis=1)
    limits = np.array([v.limit for v in task.variants], np.int16)
    labels = pictures.digits.labels[digits]
    given = {f"seen{i}": labels[:, i] for i in range(labels.shape[1])} | {"limit": limits[variant]}
    return Questions(
        picture,
        variant,
        order,
        pictures.difficulty[picture],
        tuple(pictures.digits.ambiguity[digits].T),
        tuple(pictures.digits.lookalikes[digits].T),
        given,
        _right_solution(task, given),
    )


def reading_orders(task: Task, rows: int, any_order: bool, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the number of the order in which each row reads, int64 [rows]: a random one, or the first."""
    return rng.integers(len(task.orders), size=rows) if any_order else np.zeros(rows, np.int64)


def _right_solution(task: Task, given: Values) -> Values:
    values = dict(given)
    truth: Values = {}
    for step in task.steps:
        for slot in step.slots:
            truth[slot.name] = values[slot.name] = slot.ideal(values)
    return truth


@dataclass(frozen=True)
class Solver:
    """The skill of a solver, as probabilities."""

    mistake_rate: float = 0.028  # of misreading a digit of mean ambiguity in a question of mean difficulty
    correction_rate: float = 0.005  # of noticing and correcting earlier mistakes, in each step


@dataclass
class State:
    """The values that the solver assumes after a prefix; `take_step` changes them in place."""

    values: Values  # the question's given values and all slots stated so far, after corrections
    flawed: Flags  # bool [rows], whether the prefix has an uncorrected mistake

    def take(self, rows: NDArray[np.int64]) -> "State":
        """Return a copy of the state of ``rows``, which may repeat."""
        return State({name: column[rows] for name, column in self.values.items()}, self.flawed[rows])


def start(questions: Questions) -> State:
    """Return the state of an empty prefix."""
    return State(dict(questions.given), np.zeros(len(questions), np.bool_))


def take_step(
    task: Task, number: int, questions: Questions, state: State, solver: Solver, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Take step ``number`` of the plan in every row, perhaps after correcting earlier mistakes.

    ``state`` is changed in place. Neither the first nor the last step corrects anything.

    Returns:
        The rows whose earlier mistakes were corrected, int64, sorted.
    """
    corrected = np.empty(0, np.int64)
    if 0 < number < len(task.steps) - 1:  # the last step only states the answer
        flawed = np.flatnonzero(state.flawed)
        corrected = flawed[rng.random(len(flawed)) < solver.correction_rate]
        _correct(task.steps[:number], corrected, questions, state)
    for slot in task.steps[number].slots:
        _fill(slot, questions, state, solver, rng)
    return corrected


def _correct(stated: tuple[Step, ...], rows: NDArray[np.int64], questions: Questions, state: State) -> None:
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
