"""An answer about models that have learned nothing has a warning."""

import pytest

from ray_train.sweeps.answer import ENOUGH, UNKNOWN, Answer, Estimate
from ray_train.sweeps.baseline import with_warnings


def warning(low: float, value: float, position: float | None) -> str:
    full = Estimate(value, low, value + 0.01)
    (found,) = with_warnings(
        [Answer("hard", ENOUGH, full=full)], [Answer("hard", ENOUGH, full=full)], position
    )
    assert found.numbers()["warning"] == found.warning
    return found.warning


@pytest.mark.parametrize(
    ("low", "value", "position", "said"),
    [
        (0.51, 0.52, 0.545, "not above the 0.545 of the position of a step alone: such models have learned"),
        (0.53, 0.55, 0.545, "not surely above the 0.545 of the position of a step alone: such models may"),
        (0.47, 0.49, 0.4, "not above the 0.500 of chance"),
        (0.47, 0.49, None, "not above the 0.500 of chance"),
    ],
)
def test_it_says_what_the_models_are_no_better_than(
    low: float, value: float, position: float | None, said: str
) -> None:
    assert said in warning(low, value, position)


def test_models_that_are_better_than_the_position_have_none() -> None:
    assert warning(0.55, 0.56, 0.545) == ""


def test_another_metric_is_compared_by_the_auc() -> None:
    by_f1 = Answer("hard", ENOUGH, full=Estimate(0.9, 0.89, 0.91))
    by_auc = Answer("hard", ENOUGH, full=Estimate(0.52, 0.51, 0.53))
    (found,) = with_warnings([by_f1], [by_auc], 0.545)
    assert "all the data give an auc of 0.520 (0.510…0.530)" in found.warning


def test_what_is_unknown_has_no_warning() -> None:
    unknown = Answer("hard", UNKNOWN, "too few")
    assert with_warnings([unknown], [unknown], 0.9) == [unknown]
