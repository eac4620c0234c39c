"""Thresholds: which is chosen, on which steps, and which steps are reported with it."""

import numpy as np
import pytest
from support.scored_steps import metrics_of, scored

from bisieve.errors import TrainingError
from ray_train.choices import threshold_of
from ray_train.evaluation.metrics import ALL
from ray_train.evaluation.thresholds import (
    check_judged_steps,
    choose_threshold,
    chosen_threshold,
    in_calibration_half,
    swept_threshold,
)


def test_the_threshold_is_the_lowest_that_is_best() -> None:
    assert choose_threshold(scored([0.9, 0.7, 0.6, 0.3, 0.1], [1, 1, 1, 0, 0], "aaaaa")) == 0.6


def test_the_halves_depend_on_question_and_seed_alone_and_are_about_equal() -> None:
    questions = [f"question {number}" for number in range(1000)]
    half = in_calibration_half(questions, seed=0)
    assert half.tolist() == in_calibration_half(questions, seed=0).tolist()
    assert half.tolist() != in_calibration_half(questions, seed=1).tolist()
    assert 400 < half.sum() < 600
    assert in_calibration_half(questions[::-1], seed=0).tolist() == half.tolist()[::-1]


@pytest.mark.parametrize("seed", range(5))
def test_the_papers_threshold_is_the_best_of_all_rounded_rewards_on_the_reported_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    correct = rng.random(300) < 0.7
    rewards = np.clip(correct * 0.3 + rng.random(300) * 0.7, 0, 1)
    steps = scored(rewards.tolist(), correct.tolist(), "abc" * 100)
    candidates = sorted({round(reward, 4) for reward in rewards.tolist()})
    scores = [metrics_of(steps, threshold)[ALL]["overall_f1"] for threshold in candidates]
    assert swept_threshold(steps) == candidates[int(np.argmax(np.round(scores, 12)))]


def test_of_very_many_rewards_the_paper_tries_each_nth() -> None:
    rewards = np.arange(4000) / 4000  # rounded: all different
    steps = scored(rewards.tolist(), (rewards >= 0.50025).tolist(), ["a"] * 4000)
    assert choose_threshold(steps) == pytest.approx(0.5, abs=0.01)
    assert swept_threshold(steps) == 0.5, "0.5002, the best, is not among each fourth"


def test_the_calibration_half_is_not_reported_and_with_a_fixed_or_tuned_threshold_all_steps_are() -> None:
    steps = scored([0.9, 0.8, 0.2, 0.1, 0.7, 0.3], [1, 1, 0, 0, 1, 0], "aaaaaa")
    half = np.array([True, True, True, False, False, False])
    threshold, chosen_on, reported = chosen_threshold(steps, half, "calibration")
    assert (threshold, chosen_on, reported.tolist()) == (0.8, "calibration", (~half).tolist())
    threshold, chosen_on, reported = chosen_threshold(steps, half, 0.85)
    assert (threshold, chosen_on, reported.all()) == (0.85, "fixed", True)
    threshold, chosen_on, reported = chosen_threshold(steps, half, "test")
    assert (threshold, chosen_on, reported.all()) == (0.7, "test", True)


@pytest.mark.parametrize("side", [True, False])
def test_a_benchmark_of_one_question_has_no_halves_but_a_fixed_threshold(side: bool) -> None:
    steps, half = scored([0.1, 0.9], [0, 1], "aa", ["q", "q"]), np.array([side, side])
    with pytest.raises(TrainingError, match="several questions"):
        chosen_threshold(steps, half, "calibration")
    assert chosen_threshold(steps, half, 0.5).reported.all()


def test_a_benchmark_without_a_judged_step_is_refused_by_any_threshold() -> None:
    for asked in ("calibration", "test", 0.5):
        with pytest.raises(TrainingError, match="a judged step"):
            check_judged_steps(np.zeros(0, bool), asked)


@pytest.mark.parametrize(
    ("given", "parsed"), [("calibration", "calibration"), ("test", "test"), ("0.85", 0.85), (1, 1.0)]
)
def test_a_threshold_is_a_name_or_a_number(given: str | float, parsed: str | float) -> None:
    assert threshold_of(given) == parsed


@pytest.mark.parametrize("given", ["tset", "1.5", "-0.1", "nan", True])
def test_another_threshold_is_refused(given: str | float) -> None:
    with pytest.raises(ValueError, match="neither calibration nor test nor a number"):
        threshold_of(given)
