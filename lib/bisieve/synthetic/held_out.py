"""Make what is held out of a corpus: a benchmark with true step labels, and candidates for best-of-N.

The pictures of both show digits that no shard shows.

- The benchmark has VisualProcessBench's schema. A step is correct if the prefix up to and including it has no
  uncorrected mistake; a filler step, which claims nothing, is neutral.
- Candidates are questions with several responses of a solver that is weak enough that a random response is
  often wrong, and most questions have a right one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from bisieve.synthetic.annotation import Attempts, attempt
from bisieve.synthetic.pictures import Pictures, held_out_digits, make_pictures, picture_path
from bisieve.synthetic.shard_files import question_texts
from bisieve.synthetic.solver import Solver, ask, reading_orders
from bisieve.synthetic.tasks import TASKS, Task

BENCHMARK_STREAM = 1_000_000  # part of the seed: keeps the random numbers apart from those of the shards

# Weaker than the solver of the shards, so that about 30 % of the steps are wrong.
POLICIES = {"careful-solver": 0.2, "hasty-solver": 0.7}  # name → mistake rate
CANDIDATES_STREAM = 2_000_000  # part of the seed: keeps the random numbers apart from all others
MISTAKE_RATE = 0.8  # of the solver: about half of its responses are wrong


@dataclass(frozen=True)
class BenchmarkPart:
    """The held-out rollouts of one task by one policy."""

    task: Task
    policy: str  # a key of POLICIES
    pictures: Pictures  # one per rollout
    attempts: Attempts

    @property
    def folder(self) -> str:
        """Return the folder of its pictures, relative to ``images``."""
        return f"benchmark/{self.task.name}-{self.policy}"


def rollouts_per_task(total: int) -> list[int]:
    """Divide ``total`` by the square roots of the tasks' shares, so that small sources are measured, too."""
    weights = np.sqrt([task.share for task in TASKS])
    counts = (total * weights / weights.sum()).astype(int)
    counts[0] += total - counts.sum()
    return [int(count) for count in counts]


def make_benchmark(
    total: int, seed: int, correction_rate: float, any_order: bool = False
) -> Iterator[BenchmarkPart]:
    """Yield ``total`` held-out rollouts, each with its own question, in parts by task and policy."""
    digits = held_out_digits()
    for number, (task, rollouts) in enumerate(zip(TASKS, rollouts_per_task(total), strict=True)):
        for place, (policy, mistake_rate) in enumerate(POLICIES.items()):
            size = rollouts // len(POLICIES) + (place < rollouts % len(POLICIES))
            if size == 0:
                continue
            rng = np.random.default_rng([seed, BENCHMARK_STREAM, number, place])
            pictures = make_pictures(task.layout, digits, size, rng)
            variants = rng.integers(len(task.variants), size=size)
            orders = reading_orders(task, size, any_order, rng)
            questions = ask(task, pictures, np.arange(size), variants, orders)
            yield BenchmarkPart(
                task, policy, pictures, attempt(task, questions, Solver(mistake_rate, correction_rate), rng)
            )


def benchmark_lines(part: BenchmarkPart) -> Iterator[bytes]:
    """Yield each rollout of ``part`` as a line of VisualProcessBench's ``test.jsonl``, with its line end."""
    questions = part.attempts.questions
    wordings = question_texts(part.task)
    for row in range(len(questions)):
        positions = [position for position in part.attempts.positions if position.present[row]]
        record: dict[str, Any] = {
            "image": [picture_path(part.folder, row)],
            "question": wordings[questions.variant[row]],
            "answer": str(questions.truth["answer"][row]),
            "response": {
                "steps": [position.texts[row] for position in positions],
                "process_correctness": [int(position.correctness[row]) for position in positions],
            },
            "policy_model": part.policy,
            "data_source": part.task.name,
        }
        yield msgspec.json.encode(record) + b"\n"


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
