"""What an interval shows: a better model, an equivalent one, or nothing."""

import numpy as np
import pytest

from ray_train.evaluation.bootstrap import draws, interval
from ray_train.evaluation.verdicts import better, is_equivalent, least


@pytest.mark.parametrize(
    ("ends", "of_auc", "of_brier"),
    [
        ([0.01, 0.02], "B", "A"),
        ([-0.02, -0.01], "A", "B"),
        ([-0.01, 0.01], None, None),
        ([0.0, 0.01], None, None),
        (None, None, None),
    ],
)
def test_the_better_model_has_the_higher_metric_or_the_lower_error(
    ends: list[float] | None, of_auc: str | None, of_brier: str | None
) -> None:
    assert (better("auc", ends), better("brier", ends)) == (of_auc, of_brier)


@pytest.mark.parametrize(
    ("ends", "margin", "questions", "equivalent"),
    [
        ([-0.01, 0.015], 0.02, 500, True),
        ([-0.01, 0.02], 0.02, 500, False),
        ([-0.02, 0.01], 0.02, 500, False),
        ([0.0, 0.0], 0.02, 149, False),
        ([0.0, 0.0], 0.02, 150, True),
        ([0.0, 0.0], None, 500, None),
        (None, 0.02, 500, None),
    ],
)
def test_equivalent_needs_an_interval_inside_the_margin_and_enough_questions(
    ends: list[float] | None, margin: float | None, questions: int, equivalent: bool | None
) -> None:
    assert is_equivalent(ends, margin, questions, 0.95) is equivalent
    assert (least(0.01, 0.95), least(0.01, 0.9)) == (300, 231)


def test_models_that_differ_by_the_margin_are_hardly_ever_called_equivalent() -> None:
    """Of 300 intervals of differences that are as large as the margin, at most 5 %."""
    margin, weights = 0.02, draws(200, 0)
    of_questions = np.random.default_rng(0).normal(margin, 0.05, (200, 300))
    drawn = weights @ of_questions / 200
    called = sum(bool(is_equivalent(interval(each, 0.95), margin, 200, 0.95)) for each in drawn.T)
    assert called <= 15
