"""The report of an evaluation: what is in it, and what is said of it."""

import json
from typing import Any

import numpy as np
import pytest
from support.scored_steps import metrics_of, scored, some_steps

from ray_train.evaluation.metrics import ALL, ScoredSteps
from ray_train.evaluation.report import position_baseline, report
from ray_train.evaluation.tables import NAMES, table
from ray_train.evaluation.thresholds import in_calibration_half, swept_threshold


def by_position(seed: int, noise: float) -> ScoredSteps:
    """Solutions of 5 steps, wrong from a random step on; the rewards are the true labels with noise."""
    rng = np.random.default_rng(seed)
    position = np.tile(np.arange(5), 300)
    correct = position < np.repeat(rng.integers(0, 6, 300), 5)
    rewards = np.clip(correct * 0.5 + 0.25 + rng.normal(0, noise, 1500), 0, 1)
    return scored(
        rewards.tolist(), correct.tolist(), "ab" * 750, [f"q{n // 10}" for n in range(1500)],
        np.repeat(np.arange(300), 5).tolist(),
    )  # fmt: skip


def test_a_question_is_never_in_both_halves_and_no_step_is_lost() -> None:
    steps = some_steps(70)
    numbers = report(steps, seed=0)
    assert numbers["steps"] + numbers["calibration_steps"] == len(steps)
    assert numbers["steps"] % 6 == 0
    assert sum(entry["steps"] for entry in numbers["sources"].values()) == numbers["steps"]


def test_the_threshold_comes_from_the_calibration_half() -> None:
    questions = [f"question {number}" for number in range(200)]
    half = in_calibration_half(questions, seed=0)
    correct = np.arange(200) % 2 == 0
    # In the calibration half 0.5 divides well; in the other half every reward is lower.
    rewards = np.where(correct, 0.6, 0.4) - np.where(half, 0.0, 0.3)
    numbers = report(scored(rewards.tolist(), correct.tolist(), ["a"] * 200, questions), seed=0)
    assert numbers["threshold"] == pytest.approx(0.6)
    assert numbers["overall_f1"] < 0.5
    assert numbers["auc"] == 1.0


@pytest.mark.parametrize("asked", ["calibration", "test", 0.4])
def test_the_metrics_are_those_of_the_reported_steps_at_the_threshold_with_intervals(
    asked: str | float,
) -> None:
    steps = some_steps(70)
    numbers = report(steps, seed=0, asked=asked)
    half = in_calibration_half(steps.questions.tolist(), seed=0)
    expected = metrics_of(steps.where(~half) if asked == "calibration" else steps, numbers["threshold"])
    assert {name: numbers[name] for name in expected[ALL]} == pytest.approx(expected[ALL])
    for source in ("s0", "s1", "s2"):
        entry = numbers["sources"][source]
        assert {name: entry[name] for name in expected[source]} == pytest.approx(expected[source])
        assert set(entry["intervals"]) == set(expected[source])
    for name, (low, high) in numbers["intervals"].items():
        assert low < numbers[name] < high, name
    for name, bound in numbers["lower_bounds"].items():
        assert numbers["intervals"][name][0] < bound < numbers[name], "one-sided"
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers


def test_the_position_baseline_is_fitted_on_the_other_half_alone() -> None:
    steps = by_position(0, 0.1)
    half = in_calibration_half(steps.questions.tolist(), seed=0)
    rewards, thresholds = position_baseline(steps, half)
    # Other labels in the half that is predicted change nothing there.
    turned = ScoredSteps(**{**vars(steps), "correct": np.where(half, steps.correct, ~steps.correct)})
    again, _ = position_baseline(turned, half)
    assert (again[~half] == rewards[~half]).all()
    assert (again[half] != rewards[half]).all()
    assert len(set(thresholds[half])) == len(set(thresholds[~half])) == 1
    for position in range(1, 6):
        at = steps.positions == position
        share = steps.correct[half & at].mean()
        assert rewards[~half & at] == pytest.approx(np.full((~half & at).sum(), share), abs=0.05)


@pytest.mark.parametrize("fixed", [0.5, 0.85, 0.01])
def test_a_fixed_threshold_is_the_models_alone(fixed: float) -> None:
    """The baseline is as good as position can be: at 0.01 it would predict that all steps are right."""
    steps = by_position(0, 0.1)
    numbers = report(steps, seed=0, asked=fixed)
    half = in_calibration_half(steps.questions.tolist(), seed=0)
    rewards, thresholds = position_baseline(steps, half, fixed)
    assert len(set(thresholds.tolist())) == 2, "one for each half"
    best = metrics_of(ScoredSteps(**{**vars(steps), "rewards": rewards - thresholds}), 0.0)[ALL]
    baseline = numbers["position_baseline"]
    assert baseline["overall_f1"] == pytest.approx(best["overall_f1"])
    assert baseline["overall_f1"] > 0.6
    assert baseline["threshold_on"] == "calibration"
    assert "fixed; by position: its own" in table(numbers)
    # What needs no threshold is the same whatever the model's is.
    other = report(steps, seed=0, asked=0.3)["position_baseline"]
    for metric in ("auc", "brier", "calibration_error"):
        assert baseline[metric] == other[metric]
        assert baseline["differences"][metric] == other["differences"][metric]


def test_a_threshold_tuned_on_the_test_set_is_so_for_both() -> None:
    steps = by_position(0, 0.1)
    half = in_calibration_half(steps.questions.tolist(), seed=0)
    rewards, thresholds = position_baseline(steps, half, "test")
    (tuned,) = set(thresholds.tolist())
    guessed = ScoredSteps(**{**vars(steps), "rewards": rewards})
    assert tuned == swept_threshold(guessed)
    found = report(steps, seed=0, asked="test")["position_baseline"]
    assert found["threshold_on"] == "test"
    assert found["overall_f1"] == pytest.approx(metrics_of(guessed, tuned)[ALL]["overall_f1"])


def test_a_half_with_one_kind_of_step_gives_a_constant_baseline() -> None:
    steps, half = scored([0.5] * 4, [1, 1, 0, 1], "aaaa"), np.array([True, True, False, False])
    rewards, _ = position_baseline(steps, half)
    assert rewards[~half].tolist() == [1.0, 1.0]


def test_it_is_said_in_plain_words_if_a_model_knows_no_more_than_the_position() -> None:
    sentence = "this model does not beat a guess by the position of a step alone"
    steps = by_position(0, 0.1)
    assert sentence not in table(report(steps, seed=0))
    by_place = ScoredSteps(**{**vars(steps), "rewards": 1 - steps.positions / 5})
    numbers = report(by_place, seed=0)
    low, high = numbers["position_baseline"]["differences"]["auc"]["interval"]
    assert low <= 0 <= high
    assert sentence in table(numbers)
    random = ScoredSteps(**{**vars(steps), "rewards": np.random.default_rng(0).random(len(steps))})
    assert sentence in table(report(random, seed=0))


def test_the_table_has_every_metric_and_source_marks_a_tuned_threshold_and_fits_the_terminal() -> None:
    steps = some_steps(70)
    long = ScoredSteps(
        **{**vars(steps), "sources": np.char.add("a source with a very long name ", steps.sources)}
    )
    for asked in ("calibration", "test", 0.85):
        numbers: dict[str, Any] = report(long, seed=0, asked=asked)
        shown = table(numbers)
        assert all(name in shown for metric, name in NAMES.items() if metric in numbers)
        assert "a source with a very lon" in shown
        assert max(map(len, shown.splitlines())) <= 100
        assert ("TUNED ON THE TEST SET" in shown) == (asked == "test")
    assert "threshold 0.8500, fixed" in shown


def test_a_metric_that_is_undefined_is_none() -> None:
    numbers = report(scored([0.9] * 40, [1] * 40, "ab" * 20), seed=0)
    assert numbers["auc"] is numbers["intervals"]["auc"] is numbers["lower_bounds"]["auc"] is None
    assert numbers["lower_bounds"]["overall_f1"] == 0.5
    assert "none" in table(numbers)
