"""Confidence intervals, against the same metrics of questions that were really drawn."""

import time

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score
from support.scored_steps import scored, some_steps

from ray_train.evaluation import bootstrap, metrics
from ray_train.evaluation.bootstrap import draws, interval, intervals, measured, quantile
from ray_train.evaluation.metrics import ALL, ScoredSteps
from ray_train.evaluation.report import report

SEED, THRESHOLD = 7, 0.5


def test_each_resample_has_as_many_questions_as_there_are() -> None:
    weights = draws(25, SEED)
    assert weights.shape == (bootstrap.RESAMPLES, 25)
    assert set(weights.sum(1).tolist()) == {25.0}
    assert (weights == draws(25, SEED)).all()
    assert (weights != draws(25, SEED + 1)).any()


@pytest.mark.parametrize("at_once", [1, 1000, 10**6])
def test_metrics_of_a_resample_are_those_of_its_steps(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 30)
    monkeypatch.setattr(metrics, "_AT_ONCE", at_once)
    steps = some_steps(25)
    _, found = measured(steps, THRESHOLD, SEED)
    names = np.unique(steps.questions)
    for number, times in enumerate(draws(len(names), SEED).astype(int)):
        where = np.repeat(np.arange(len(steps)), times[np.searchsorted(names, steps.questions)])
        correct, rewards, sources = steps.correct[where], steps.rewards[where], steps.sources[where]
        f1 = {
            source: f1_score(correct[at], rewards[at] >= THRESHOLD, average="macro", labels=[0, 1])
            for source in np.unique(sources)
            for at in [sources == source]
        }
        expected = sum(value * (sources == source).sum() for source, value in f1.items()) / len(where)
        assert found[ALL]["overall_f1"][number] == pytest.approx(expected)
        assert found[ALL]["unweighted_f1"][number] == pytest.approx(np.mean(list(f1.values())))
        assert found[ALL]["auc"][number] == pytest.approx(roc_auc_score(correct, rewards))
        at = sources == "s1"
        assert found["s1"]["auc"][number] == pytest.approx(roc_auc_score(correct[at], rewards[at]))
        assert found["s1"]["brier"][number] == pytest.approx(((rewards - correct)[at] ** 2).mean())


def test_an_interval_is_central_and_wider_with_more_confidence() -> None:
    values = np.arange(1001) / 1000
    assert interval(values, 0.95) == pytest.approx([0.025, 0.975])
    assert interval(values, 0.5) == pytest.approx([0.25, 0.75])
    assert quantile(values, 0.05) == pytest.approx(0.05)


def test_what_is_undefined_in_half_of_the_resamples_has_no_interval() -> None:
    values = np.array([np.nan, np.nan, 1.0, 2.0])
    assert interval(values, 0.95) is None
    assert interval(np.array([np.nan, 1.0, 1.0]), 0.95) == [1.0, 1.0]


def test_fewer_questions_make_a_wider_interval() -> None:
    low, high = report(some_steps(400), SEED)["intervals"]["overall_f1"]
    lowest, highest = report(some_steps(40), SEED)["intervals"]["overall_f1"]
    assert highest - lowest > 2 * (high - low) > 0


def test_steps_of_a_question_are_drawn_together() -> None:
    """Copies of a question's steps tell nothing new: no interval becomes narrower."""
    steps = some_steps(30)
    twice = ScoredSteps(*(np.concatenate([part, part]) for part in vars(steps).values()))
    twice.solutions[len(steps) :] += len(steps)
    once, again = (report(each, SEED, asked=THRESHOLD) for each in (steps, twice))
    assert again["intervals"] == {name: pytest.approx(ends) for name, ends in once["intervals"].items()}


def test_the_interval_holds_the_true_value_about_as_often_as_it_says() -> None:
    """AUC of rewards that are normal around 0 for wrong and around 1 for right steps is Φ(1/√2) = 0.7602."""
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        correct = rng.random(240) < 0.6
        rewards = correct + rng.normal(size=240)
        steps = scored(rewards.tolist(), correct.tolist(), "a" * 240, np.repeat(np.arange(80), 3).astype(str))
        _, found = measured(steps, THRESHOLD, SEED)
        low, high = interval(found[ALL]["auc"], 0.95) or (0.0, 0.0)
        held += low <= 0.7602 <= high
    assert 52 <= held < 60


def test_the_interval_of_the_calibration_error_holds_the_error_itself() -> None:
    """Resampling raises it: of perfectly calibrated rewards the central interval would be above it."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rewards = rng.random(600)
        correct = rng.random(600) < rewards
        steps = scored(
            rewards.tolist(), correct.tolist(), "a" * 600, np.repeat(np.arange(200), 3).astype(str)
        )
        values, drawn = measured(steps, THRESHOLD, SEED)
        low, high = intervals(values[ALL], drawn[ALL], 0.95)["calibration_error"] or (1.0, 0.0)
        assert 0 <= low <= values[ALL]["calibration_error"][0] <= high


def test_a_benchmark_of_the_size_of_visualprocessbench_takes_seconds() -> None:
    steps = some_steps(1433, per_question=18)  # 25,794 steps
    began = time.process_time()
    report(steps, SEED)
    assert time.process_time() - began < 30
