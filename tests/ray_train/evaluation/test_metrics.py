"""The numbers of an evaluation, against values worked out by hand."""

import numpy as np
import pytest

from bisieve.errors import TrainingError
from ray_train.evaluation.metrics import (
    ScoredSteps,
    area_under_curve,
    choose_threshold,
    in_calibration_half,
    macro_f1,
    overall,
    report,
    swept_threshold,
    table,
)


def scored(
    rewards: list[float], correct: list[int], sources: str, questions: list[str] | None = None
) -> ScoredSteps:
    return ScoredSteps(
        np.array(rewards), np.array(correct, bool), np.array(list(sources)),
        np.array(questions or [str(number) for number in range(len(rewards))]),
    )  # fmt: skip


def test_macro_f1_is_the_mean_over_right_and_wrong_steps() -> None:
    correct, predicted = np.array([1, 1, 1, 0], bool), np.array([1, 1, 0, 0], bool)
    # Right steps: precision 1, recall 2/3, F1 4/5.  Wrong steps: precision 1/2, recall 1, F1 2/3.
    assert macro_f1(correct, predicted) == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_a_kind_of_step_that_is_never_met_counts_as_zero() -> None:
    assert macro_f1(np.array([True, True]), np.array([True, True])) == 0.5


def test_the_overall_score_is_the_step_weighted_mean_of_the_sources() -> None:
    steps = scored([0.9, 0.8, 0.2, 0.1, 0.9, 0.1], [1, 1, 0, 1, 0, 1], "aaaabb")
    mean, sources = overall(steps, 0.5)
    # a: right 2 of 3 found (F1 4/5), wrong F1 2/3.  b: all mistaken.
    assert sources["a"] == {"macro_f1": pytest.approx(11 / 15), "steps": 4, "correct_share": 0.75}
    assert sources["b"] == {"macro_f1": 0.0, "steps": 2, "correct_share": 0.5}
    assert mean == pytest.approx((4 * 11 / 15 + 2 * 0.0) / 6)


def test_a_reward_at_the_threshold_is_a_right_step() -> None:
    assert overall(scored([0.5, 0.4], [1, 0], "aa"), 0.5)[0] == 1.0


def test_the_threshold_is_the_lowest_that_is_best() -> None:
    assert choose_threshold(scored([0.9, 0.7, 0.6, 0.3, 0.1], [1, 1, 1, 0, 0], "aaaaa")) == 0.6


def test_the_area_under_the_curve_is_the_share_of_well_ordered_pairs() -> None:
    assert area_under_curve(scored([0.9, 0.4, 0.5, 0.1], [1, 1, 0, 0], "aaaa")) == pytest.approx(3 / 4)
    assert area_under_curve(scored([0.9, 0.4], [1, 1], "aa")) is None


def test_the_halves_depend_on_question_and_seed_alone_and_are_about_equal() -> None:
    questions = [f"question {number}" for number in range(1000)]
    half = in_calibration_half(questions, seed=0)
    assert half.tolist() == in_calibration_half(questions, seed=0).tolist()
    assert half.tolist() != in_calibration_half(questions, seed=1).tolist()
    assert 400 < half.sum() < 600
    assert in_calibration_half(questions[::-1], seed=0).tolist() == half.tolist()[::-1]


def test_a_question_never_lies_in_both_halves_and_no_step_is_lost() -> None:
    rng = np.random.default_rng(0)
    questions = [f"question {number // 4}" for number in range(400)]
    steps = scored(rng.random(400).tolist(), rng.integers(0, 2, 400).tolist(), "ab" * 200, questions)
    numbers = report(steps, seed=0)
    assert numbers["steps"] + numbers["calibration_steps"] == 400
    assert numbers["steps"] % 4 == 0
    assert sum(entry["steps"] for entry in numbers["sources"].values()) == numbers["steps"]


def test_the_threshold_comes_from_the_calibration_half() -> None:
    questions = [f"question {number}" for number in range(200)]
    half = in_calibration_half(questions, seed=0)
    correct = np.arange(200) % 2 == 0
    # In the calibration half 0.5 divides well; in the other half every reward is lower.
    rewards = np.where(correct, 0.6, 0.4) - np.where(half, 0.0, 0.3)
    numbers = report(ScoredSteps(rewards, correct, np.array(["a"] * 200), np.array(questions)), seed=0)
    assert numbers["threshold"] == pytest.approx(0.6)
    assert numbers["overall_f1"] < 0.5
    assert numbers["auc"] == 1.0
    bounds = numbers["lower_bounds"]
    *_, line = table(numbers).splitlines()
    assert line == (
        f"lower bounds (95% confidence): macro-F1 {bounds['overall_f1']:.4f}, "
        f"pooled macro-F1 {bounds['pooled_macro_f1']:.4f}, AUC {bounds['auc']:.4f}"
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_papers_threshold_is_the_best_of_all_rounded_rewards_on_the_reported_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    correct = rng.random(300) < 0.7
    rewards = np.clip(correct * 0.3 + rng.random(300) * 0.7, 0, 1)
    steps = ScoredSteps(rewards, correct, np.array(list("abc") * 100), np.arange(300).astype(str))
    best = (-1.0, 0.5)
    for threshold in sorted({round(reward, 4) for reward in rewards.tolist()}):
        if (score := overall(steps, threshold)[0]) > best[0]:
            best = score, threshold
    numbers = report(steps, seed=0, threshold_on="test")
    assert (numbers["overall_f1"], numbers["threshold"]) == (pytest.approx(best[0], abs=1e-12), best[1])
    assert (numbers["steps"], numbers["calibration_steps"], numbers["threshold_on"]) == (300, 0, "test")
    assert "chosen on these very steps" in table(numbers)
    other = report(steps, seed=0)
    assert (other["threshold_on"], other["steps"] < 300) == ("calibration", True)


def test_of_very_many_rewards_the_paper_tries_each_nth() -> None:
    rewards = np.arange(4000) / 4000  # rounded: all different
    steps = ScoredSteps(rewards, rewards >= 0.50025, np.array(["a"] * 4000), rewards.astype(str))
    assert choose_threshold(steps) == pytest.approx(0.5, abs=0.01)
    assert swept_threshold(steps) == 0.5, "0.5002, the best, is not among each fourth"


def test_a_benchmark_of_one_question_has_no_halves() -> None:
    with pytest.raises(TrainingError, match="several questions"):
        report(scored([0.1, 0.9], [0, 1], "aa", ["q", "q"]), seed=0)


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_is_an_error_that_says_so(reward: float) -> None:
    with pytest.raises(TrainingError, match=r"1 of 3 that are none \(nan or inf\)"):
        report(scored([0.1, reward, 0.9], [0, 1, 1], "aaa"), seed=0)
