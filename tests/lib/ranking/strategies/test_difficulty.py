"""Sampling without replacement by how near a question's mean MC score is to moderate."""

import math

import numpy as np
import pytest
from support.rankings import Given, ranking

from bisieve.ranking.strategies.difficulty import MODERATE, WIDTH, natural_log


def test_the_logarithm_is_right_to_the_last_digits() -> None:
    x = np.concatenate([10.0 ** np.arange(-300, 300, 7), np.linspace(0.5, 2, 1001), [1 - 2.0**-53]])
    assert natural_log(x) == pytest.approx(np.log(x), rel=1e-15, abs=1e-17)
    assert natural_log(np.array([1.0])) == 0.0


def firsts(rollouts: list[Given], seeds: int = 400) -> np.ndarray:
    """How often each rollout is the first, over seeds."""
    first = [ranking(rollouts, "difficulty", seed=seed)[0] for seed in range(seeds)]
    return np.bincount(first, minlength=len(rollouts)) / seeds


def test_rollouts_are_drawn_by_the_density_at_their_questions_mean() -> None:
    # Means of the questions: 0.5 (one rollout is below it, one above), 0.8, and 1.
    rollouts = [
        Given((0.25, 0.0), "moderate"), Given((1.0, 0.75), "moderate"),
        Given((0.8,), "easy"), Given((1.0, 1.0), "done"),
    ]  # fmt: skip
    weights = np.array([math.exp(-(((d - MODERATE) / WIDTH) ** 2) / 2) for d in (0.5, 0.5, 0.8, 1.0)])
    assert firsts(rollouts) == pytest.approx(weights / weights.sum(), abs=0.06)


def test_the_order_is_seeded_and_does_not_depend_on_the_order_of_the_corpus() -> None:
    rollouts = [Given((n / 20, 0.5), f"q{n % 7}") for n in range(20)]
    order = ranking(rollouts, "difficulty", seed=1)
    assert order == ranking(rollouts, "difficulty", seed=1) != ranking(rollouts, "difficulty", seed=2)
    assert order == ranking(rollouts, "difficulty", seed=1, ties="hash")


@pytest.mark.parametrize("scope", ["source", "global"])
def test_a_question_is_one_of_its_source_or_of_all(scope: str) -> None:
    rollouts = [Given((1.0,), "q", "a"), Given((0.0,), "q", "b"), Given((0.5,), "r", "a")]
    first_of_a = [ranking(rollouts, "difficulty", seed=seed, scope=scope)[0] for seed in range(300)]
    # Together with the one in source b the question q has the mean 0.5, alone 1.
    weight = 1.0 if scope == "global" else math.exp(-((0.5 / WIDTH) ** 2) / 2)
    assert first_of_a.count(0) / 300 == pytest.approx(weight / (1 + weight), abs=0.08)
