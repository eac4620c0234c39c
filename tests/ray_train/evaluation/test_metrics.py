"""The metrics of an evaluation, against scikit-learn and against values worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score
from support.scored_steps import metrics_of, scored, some_steps

from ray_train.evaluation.metrics import ALL, ScoredSteps, measure


@pytest.mark.parametrize("seed", range(3))
def test_f1_auc_and_brier_are_those_of_scikit_learn_apart_and_together(seed: int) -> None:
    steps = some_steps(40, seed=seed)
    found = metrics_of(steps, 0.6)
    by_source = {}
    for scope in (ALL, "s0", "s1", "s2"):
        part = steps if scope == ALL else steps.where(steps.sources == scope)
        wrong, right = f1_score(part.correct, part.rewards >= 0.6, average=None, labels=[False, True])
        assert (found[scope]["f1_wrong"], found[scope]["f1_right"]) == pytest.approx((wrong, right))
        assert found[scope]["auc"] == pytest.approx(roc_auc_score(part.correct, part.rewards))
        assert found[scope]["brier"] == pytest.approx(brier_score_loss(part.correct, part.rewards))
        by_source[scope] = (wrong + right) / 2, len(part)
    assert found[ALL]["pooled_macro_f1"] == pytest.approx(by_source.pop(ALL)[0])
    f1, size = np.array(list(by_source.values())).T
    assert [found[source]["macro_f1"] for source in by_source] == pytest.approx(f1.tolist())
    assert found[ALL]["overall_f1"] == pytest.approx(np.average(f1, weights=size))
    assert found[ALL]["unweighted_f1"] == pytest.approx(f1.mean())


def test_a_source_may_be_called_all() -> None:
    steps = some_steps(20)
    found = metrics_of(replace(steps, sources=np.full(len(steps), "all")))
    assert found.keys() == {ALL, "all"}
    assert found[ALL]["overall_f1"] == found["all"]["macro_f1"]


def test_macro_f1_and_its_means_over_sources() -> None:
    found = metrics_of(scored([0.9, 0.8, 0.2, 0.1, 0.9, 0.1], [1, 1, 0, 1, 0, 1], "aaaabb"))
    # a: right steps: precision 1, recall 2/3, F1 4/5; wrong steps: precision 1/2, recall 1, F1 2/3.
    assert found["a"]["macro_f1"] == pytest.approx(11 / 15)
    assert found["b"]["macro_f1"] == 0, "all mistaken"
    assert found[ALL]["overall_f1"] == pytest.approx(4 / 6 * 11 / 15)
    assert found[ALL]["unweighted_f1"] == pytest.approx(11 / 30)
    # Pooled: right 2 of 4 found, 3 predicted: 4/7; wrong 1 of 2 found, 3 predicted: 2/5.
    assert found[ALL]["pooled_macro_f1"] == pytest.approx((4 / 7 + 2 / 5) / 2)


def test_a_kind_of_step_that_is_never_met_counts_as_zero() -> None:
    assert metrics_of(scored([0.9, 0.8], [1, 1], "aa"))[ALL]["pooled_macro_f1"] == 0.5


def test_a_source_that_a_resample_does_not_draw_has_no_metrics_in_it() -> None:
    """Counted as 0, it would pull the lower end of the source's interval to 0."""
    steps = scored([0.9, 0.2, 0.8, 0.4], [1, 0, 1, 0], "aabb", ["qa", "qa", "qb", "qb"])
    weights = np.array([[1.0, 1.0], [0.0, 2.0]])
    found = measure(steps, 0.5, weights, np.array(["qa", "qb"]), np.array(["a", "b"]))
    for name, values in found["a"].items():
        assert np.isnan(values[1]), name
    assert [found["a"][name][0] for name in ("macro_f1", "f1_right", "f1_wrong")] == [1.0, 1.0, 1.0]
    assert found["b"]["macro_f1"].tolist() == [1.0, 1.0]
    assert found[ALL]["unweighted_f1"].tolist() == found[ALL]["overall_f1"].tolist() == [1.0, 1.0]


def test_a_reward_at_the_threshold_is_a_right_step() -> None:
    assert metrics_of(scored([0.5, 0.4], [1, 0], "aa"))[ALL]["overall_f1"] == 1.0


def test_auc_is_undefined_where_one_kind_of_step_is_missing() -> None:
    assert metrics_of(scored([0.9, 0.4, 0.5, 0.1], [1, 1, 0, 0], "aaaa"))[ALL]["auc"] == pytest.approx(3 / 4)
    assert np.isnan(metrics_of(scored([0.9, 0.4], [1, 1], "aa"))[ALL]["auc"])


def test_the_calibration_error_is_the_distance_of_rewards_and_shares_by_bin() -> None:
    # Of 15 bins: two steps in [0, 1/15) with mean 0.02, one right; two in [14/15, 1], both right; 1 is there.
    found = metrics_of(scored([0.01, 0.03, 0.95, 1.0], [1, 0, 1, 1], "aaaa"))
    assert found[ALL]["calibration_error"] == pytest.approx((2 * abs(0.02 - 0.5) + 2 * abs(0.975 - 1)) / 4)


def test_a_first_error_is_found_if_no_earlier_step_is_below_the_threshold() -> None:
    steps = scored(
        [0.9, 0.2, 0.9, 0.1, 0.1, 0.9, 0.9, 0.8, 0.3, 0.9],
        [1, 0, 0, 1, 0, 1, 1, 1, 1, 0],
        "a" * 10,
        solutions=[1, 1, 1, 2, 2, 3, 3, 4, 4, 5],
    )
    found = metrics_of(steps)[ALL]
    # 1: found, and what follows does not matter. 2: one step too early. 3: no error, none predicted.
    # 4: no error, one predicted. 5: an error that is not found.
    assert found["accuracy_on_wrong"] == pytest.approx(1 / 3)
    assert found["accuracy_on_right"] == pytest.approx(1 / 2)
    assert found["first_error_accuracy"] == pytest.approx(2 / 5)
    assert found["processbench_f1"] == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))


def test_a_solution_whose_last_steps_have_no_reward_is_no_case_of_a_first_error() -> None:
    steps = scored([0.9, 0.9, 0.1], [1, 1, 0], "aaa", solutions=[1, 2, 2])
    cut = ScoredSteps(**{**vars(steps), "whole": np.array([False, True, True])})
    found = metrics_of(cut)[ALL]
    assert (found["first_error_accuracy"], found["accuracy_on_wrong"]) == (1, 1)
    assert np.isnan(found["accuracy_on_right"])
    assert np.isnan(found["processbench_f1"])


def test_processbench_f1_is_zero_if_nothing_is_located() -> None:
    assert metrics_of(scored([0.9, 0.1], [0, 1], "aa"))[ALL]["processbench_f1"] == 0
