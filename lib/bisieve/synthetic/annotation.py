"""Sample rollouts (`attempt`) and annotate them by Monte Carlo (`annotate`): K continuations per prefix.

Rollouts are handled in batches, as columns: an array or list has one entry per rollout (row).
"""

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bisieve.synthetic.solver import Flags, Questions, Solver, State, start, take_step
from bisieve.synthetic.tasks import Step, Task, Values

CORRECT, NEUTRAL, INCORRECT = 1, 0, -1  # as in VisualProcessBench

OPENINGS = (
    "Let me look at the picture carefully.",
    "I will go through the picture step by step.",
    "First I find what the question asks for.",
)
CLOSINGS = ("Now I can give the answer.", "That is all I need for the answer.")
OPENING_SHARE, CLOSING_SHARE = 0.25, 0.35  # share of rollouts with such a filler step

FIELD = re.compile(r"{(\w+)}")

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Position:
    """One step position in all rollouts of a batch; a filler step is present in some rows only."""

    texts: list[str]  # [rows]; meaningless where not present
    present: Flags  # bool [rows]
    correctness: NDArray[np.int8]  # [rows] CORRECT, NEUTRAL or INCORRECT: the truth, for the benchmark only
    state: State  # after this step
    steps_taken: int  # steps of the plan taken so far, this one included; fillers do not count


@dataclass
class Attempts:
    """A batch of rollouts of one task, as a list of step positions."""

    task: Task
    questions: Questions
    positions: list[Position] = field(default_factory=list)


def attempt(task: Task, questions: Questions, solver: Solver, rng: np.random.Generator) -> Attempts:
    """Sample one rollout for each row of ``questions``.

    Each has the steps of the task's plan and perhaps an opening and a closing filler. A step in which the
    solver corrects earlier mistakes begins with the right form of the first wrong step.
    """
    attempts = Attempts(task, questions)
    words = task.words(questions.variant.tolist(), questions.order.tolist())
    state = start(questions)
    attempts.positions.append(_filler(OPENINGS, OPENING_SHARE, state, 0, rng))
    last = len(task.steps) - 1
    for number, step in enumerate(task.steps):
        if number == last:
            attempts.positions.append(_filler(CLOSINGS, CLOSING_SHARE, state, number, rng))
        before = dict(state.values)
        corrected = take_step(task, number, questions, state, solver, rng)
        texts = say(step, state.values, words)
        for row in corrected.tolist():
            wrong = _first_wrong_step(task.steps[:number], before, questions.truth, row)
            texts[row] = f"Wait, that was wrong. {say_row(wrong, questions.truth, words, row)} {texts[row]}"
        attempts.positions.append(
            Position(
                texts,
                np.ones(len(questions), np.bool_),
                np.where(state.flawed, INCORRECT, CORRECT).astype(np.int8),
                State(dict(state.values), state.flawed.copy()),
                number + 1,
            )
        )
    return attempts


def _filler(
    sentences: tuple[str, ...], share: float, state: State, steps_taken: int, rng: np.random.Generator
) -> Position:
    n = len(state.flawed)
    choice = rng.integers(len(sentences), size=n)
    return Position(
        [sentences[i] for i in choice.tolist()],
        rng.random(n) < share,
        np.full(n, NEUTRAL, np.int8),
        State(dict(state.values), state.flawed.copy()),
        steps_taken,
    )


def say(step: Step, values: Values, words: dict[str, list[str]]) -> list[str]:
    """Return the text of ``step`` in every row; ``words`` gives those of `Task.words`."""
    columns = [
        words[name] if name in words else values[name].tolist() for name in FIELD.findall(step.sentence)
    ]
    return list(map(FIELD.sub("{}", step.sentence).format, *columns))


def say_row(step: Step, values: Values, words: dict[str, list[str]], row: int) -> str:
    """Return the text of ``step`` in one row."""
    names = FIELD.findall(step.sentence)
    return step.sentence.format(
        **{name: words[name][row] if name in words else values[name][row] for name in names}
    )


def _first_wrong_step(stated: tuple[Step, ...], values: Values, truth: Values, row: int) -> Step:
    return next(
        step for step in stated if any(values[slot.name][row] != truth[slot.name][row] for slot in step.slots)
    )


def annotate(
    attempts: Attempts, continuations: int, solver: Solver, rng: np.random.Generator
) -> list[Counts]:
    """Count the continuations from each prefix that reach the right answer.

    Args:
        attempts: The rollouts.
        continuations: Samples per prefix (K).
        solver: Samples the continuations.
        rng: The source of randomness.

    Returns:
        One array for each position, int64 [rows], in [0, K]; 0 in rows where the position is not present.
    """
    annotated = []
    for position in attempts.positions:
        rows = np.flatnonzero(position.present)
        samples = rows.repeat(continuations)
        right = continue_from(
            attempts.task,
            attempts.questions.take(samples),
            position.state.take(samples),
            position.steps_taken,
            solver,
            rng,
        )
        counts = np.zeros(len(position.present), np.int64)
        counts[rows] = right.reshape(-1, continuations).sum(axis=1)
        annotated.append(counts)
    return annotated


def continue_from(
    task: Task,
    questions: Questions,
    state: State,
    steps_taken: int,
    solver: Solver,
    rng: np.random.Generator,
) -> Flags:
    """Continue from ``state`` to the final answer and return in which rows it is right, bool [rows].

    ``state`` is changed in place. ``steps_taken`` is the number of plan steps before it.
    """
    for number in range(steps_taken, len(task.steps)):
        take_step(task, number, questions, state, solver, rng)
    right: Flags = state.values["answer"] == questions.truth["answer"]
    return right
