"""Make candidates for best-of-N: held-out questions, each with several responses of the solver.

As in the benchmark, the pictures show digits that no shard shows. The solver is weak enough that a random
response is often wrong, and most questions have a right one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from bisieve.synthetic.annotation import Attempts, attempt
from bisieve.synthetic.benchmark import rollouts_per_task
from bisieve.synthetic.pictures import Pictures, held_out_digits, make_pictures, picture_path
from bisieve.synthetic.shard_files import question_texts
from bisieve.synthetic.solver import Solver, ask, reading_orders
from bisieve.synthetic.tasks import TASKS, Task

CANDIDATES_STREAM = 2_000_000  # part of the seed: keeps the random numbers apart from all others
MISTAKE_RATE = 0.8  # of the solver: about half of its responses are wrong


@dataclass(frozen=True)
class CandidatesPart:
    """The questions of one task, with their responses."""

    task: Task
    responses: int  # to each question
    pictures: Pictures  # one per question
    attempts: Attempts  # all responses to the first question, then all to the second one, and so on

    @property
    def folder(self) -> str:
        """Return the folder of its pictures, relative to ``images``."""
        return f"candidates/{self.task.name}"


def make_candidates(
    total: int, responses: int, seed: int, correction_rate: float, any_order: bool = False
) -> Iterator[CandidatesPart]:
    """Yield ``total`` held-out questions with ``responses`` responses each, in parts by task."""
    digits = held_out_digits()
    solver = Solver(MISTAKE_RATE, correction_rate)
    for number, (task, size) in enumerate(zip(TASKS, rollouts_per_task(total), strict=True)):
        if size == 0:
            continue
        rng = np.random.default_rng([seed, CANDIDATES_STREAM, number])
        pictures = make_pictures(task.layout, digits, size, rng)
        variants = rng.integers(len(task.variants), size=size).repeat(responses)
        orders = reading_orders(task, len(variants), any_order, rng)
        asked = ask(task, pictures, np.arange(size).repeat(responses), variants, orders)
        yield CandidatesPart(task, responses, pictures, attempt(task, asked, solver, rng))


def candidate_lines(part: CandidatesPart) -> Iterator[bytes]:
    """Yield each question of ``part`` as a line for ``bisieve best-of``, with its line end."""
    questions, positions = part.attempts.questions, part.attempts.positions
    wordings = question_texts(part.task)
    for first in range(0, len(questions), part.responses):
        rows = range(first, first + part.responses)
        record: dict[str, Any] = {
            "image": [picture_path(part.folder, int(questions.picture[first]))],
            "question": wordings[questions.variant[first]],
            "answer": str(questions.truth["answer"][first]),
            "responses": [[each.texts[row] for each in positions if each.present[row]] for row in rows],
            "data_source": part.task.name,
        }
        yield msgspec.json.encode(record) + b"\n"
