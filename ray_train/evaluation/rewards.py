"""Rewards of solutions, one per step: steps that have none, and rewards that are no numbers."""

import math
from collections.abc import Iterable, Sequence

from bisieve.errors import TrainingError

Rewards = Sequence[Sequence[float]]  # of each solution, P(positive) of its steps


def filled(rewards: Rewards, solutions: Iterable[Sequence[str]]) -> list[list[float]]:
    """Return ``rewards`` with NaN for the steps of ``solutions``, given as their steps, that have none."""
    return [
        [*found, *[math.nan] * (len(steps) - len(found))]
        for found, steps in zip(rewards, solutions, strict=True)
    ]


def check_finite(rewards: Rewards) -> None:
    """Raise `TrainingError` if a reward is no number: the weights of the model are broken."""
    found = [math.isfinite(reward) for of_solution in rewards for reward in of_solution]
    if broken := found.count(False):
        raise TrainingError(
            "a number as the reward of every step",
            f"{broken:,} of {len(found):,} that are none (nan or inf)",
            "give another checkpoint: the weights of this model are broken",
        )  # fmt: skip
