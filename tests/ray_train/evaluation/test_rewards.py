"""Steps without a reward are seen as such, and a reward that is no number is refused."""

import pytest

from bisieve.errors import TrainingError
from ray_train.evaluation.rewards import check_finite, filled

NAN, INFINITY = float("nan"), float("inf")


def test_trailing_steps_without_a_reward_have_nan() -> None:
    found = filled([[0.5, 0.25], [1.0], []], [["A.", "B."], ["A.", "B."], ["A."]])
    assert found == [pytest.approx(rewards, nan_ok=True) for rewards in ([0.5, 0.25], [1.0, NAN], [NAN])]


@pytest.mark.parametrize("wrong", [NAN, INFINITY])
def test_a_reward_that_is_no_number_is_counted(wrong: float) -> None:
    check_finite([[0.5, 1.0], []])
    with pytest.raises(TrainingError, match=r"found 1 of 3 that are none \(nan or inf\); give another"):
        check_finite([[0.5, wrong], [0.0]])
