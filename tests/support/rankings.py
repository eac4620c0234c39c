"""Rollouts in memory, ranked by a strategy: no engine, no index, no files."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from bisieve import schemas
from bisieve.ranking.order import ranked
from bisieve.records.options import Parameters
from bisieve.scoring import score_rollouts


class Given(NamedTuple):
    """A rollout; its counts follow from its scores, of `SAMPLES` each."""

    scores: tuple[float, ...]
    question: str = "q"
    source: str = "a"


SAMPLES = 16


def parameters(strategy: str, **options: Any) -> Parameters:
    defaults = {"alpha": 0.05, "scope": "source", "ties": "file", "seed": 0}
    return Parameters(**{**defaults, **options}, strategy=strategy)


def usable(rollouts: Sequence[Given], asked: Parameters) -> pa.Table:
    """The rollouts as a scan gives them, named r0, r1, … in file order."""
    offsets = np.cumsum([0, *(len(given.scores) for given in rollouts)])
    flat = np.array([score for given in rollouts for score in given.scores])
    parts = score_rollouts(flat, offsets, asked.alpha, asked.threshold)
    rows = [
        {
            "source": given.source,
            "rollout_id": f"r{number}",
            "question_id": given.question,
            "num_steps": len(given.scores),
            "scores": list(given.scores),
            "mc_correct": [round(score * SAMPLES) for score in given.scores],
            "mc_total": [SAMPLES] * len(given.scores),
            "shard": given.source,
            "offset": number,
            **{name: values[number].item() for name, values in parts._asdict().items()},
        }
        for number, given in enumerate(rollouts)
    ]
    return pa.Table.from_pylist(rows, schemas.USABLE)


def ranking(rollouts: Sequence[Given], strategy: str, **options: Any) -> list[int]:
    """The numbers of the rollouts, by (source, rank)."""
    asked = parameters(strategy, **options)
    names = ranked(usable(rollouts, asked), asked)["rollout_id"].to_pylist()
    return [int(name[1:]) for name in names]


def random_rollouts(number: int, seed: int, sources: str = "a") -> list[Given]:
    """Rollouts of a third as many questions; errors are mostly absorbing, and many scores are equal."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        steps = int(rng.integers(1, 6))
        right = steps if rng.random() < 0.6 else int(rng.integers(0, steps + 1))
        scores = [*(rng.integers(1, 5, right) / 4), *(rng.choice([0.0, 0.0, 0.5], steps - right))]
        question = f"q{rng.integers(0, max(1, number // 3))}"
        found.append(Given(tuple(map(float, scores)), question, sources[int(rng.integers(0, len(sources)))]))
    return found
