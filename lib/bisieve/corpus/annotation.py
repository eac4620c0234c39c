"""Monte-Carlo annotation: K continuations sampled from every prefix; a step's score is their success rate."""

import numpy as np
from numpy.typing import NDArray

from bisieve.corpus.attempts import Attempts
from bisieve.corpus.questions import Questions
from bisieve.corpus.solver import Flags, Solver, State, take_step
from bisieve.corpus.tasks import Task

Counts = NDArray[np.int64]


def annotate(
    attempts: Attempts, continuations: int, solver: Solver, rng: np.random.Generator
) -> list[Counts]:
    """How many of ``continuations`` from every prefix reach the right answer.

    One array a position, one count a row; zero in rows where the position is not present.
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
    """Runs ``solver`` on from ``state`` to the final answer; returns the rows where that is right."""
    for number in range(steps_taken, len(task.steps)):
        take_step(task, number, questions, state, solver, rng)
    right: Flags = state.values["answer"] == questions.truth["answer"]
    return right
