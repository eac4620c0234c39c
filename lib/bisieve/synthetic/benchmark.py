"""Make a held-out benchmark in VisualProcessBench's schema, with the true correctness of every step.

Its pictures show digits that no shard shows. A step is correct if the prefix up to and including it has no
uncorrected mistake; a filler step, which claims nothing, is neutral.
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
