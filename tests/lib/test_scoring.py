import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference

from bisieve.scoring import balanced_information_score, score_rollouts

SCORES = st.lists(
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 0.1, 0.3, 0.0625])), min_size=1, max_size=40
)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.875, 0.875, 0.9375, 0.875, 0, 0, 0, 0, 0, 0], 0.25828125),
        ([0.5625, 0.6875, 0.6875, 0.0625, 0, 0, 0, 0], 0.15),
        ([0.0625] * 6 + [0] * 3, 0.0170138889),
    ],
)
def test_the_papers_worked_examples(scores: list[float], expected: float) -> None:
    assert balanced_information_score(scores, alpha=0.05) == pytest.approx(expected, abs=1e-10)


def test_pure_rollouts_score_alpha_times_reliability() -> None:
    assert balanced_information_score([1.0] * 7, alpha=0.05) == 0.05
    assert balanced_information_score([0.0] * 7, alpha=0.05) == 0.05
    assert balanced_information_score([0.5, 0.5], alpha=0.2) == 0.1


def test_no_steps_have_no_score() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        balanced_information_score([])


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), 1.5, -0.1])
def test_what_is_no_score_has_no_bis(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"scores in \[0, 1\]"):
        balanced_information_score([0.5, wrong])
    with pytest.raises(ValueError, match=r"scores in \[0, 1\]"):
        score_rollouts(np.array([0.5, wrong]), np.array([0, 2]))


@pytest.mark.parametrize("option", ["alpha", "threshold"])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_the_options_of_a_score_are_finite(option: str, wrong: float) -> None:
    with pytest.raises(ValueError, match=f"a finite {option}"):
        balanced_information_score([0.5], **{option: wrong})
    with pytest.raises(ValueError, match=f"a finite {option}"):
        score_rollouts(np.array([0.5]), np.array([0, 1]), **{option: wrong})


def test_a_rollout_without_steps_among_many_has_no_bis() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        score_rollouts(np.array([0.5]), np.array([0, 1, 1]))


@given(st.lists(SCORES, min_size=1, max_size=8), st.floats(0, 2))
def test_many_rollouts_score_bit_for_bit_as_each_alone(rollouts: list[list[float]], alpha: float) -> None:
    offsets = np.cumsum([0, *map(len, rollouts)])
    parts = score_rollouts(np.concatenate(rollouts), offsets, alpha)
    assert parts.bis.tolist() == [balanced_information_score(scores, alpha) for scores in rollouts]


@given(SCORES, st.floats(0, 2))
def test_the_score_is_the_papers_bit_for_bit(scores: list[float], alpha: float) -> None:
    assert balanced_information_score(scores, alpha) == reference.bis(scores, alpha)


@given(SCORES)
def test_the_sum_runs_left_to_right_and_is_not_compensated(scores: list[float]) -> None:
    parts = score_rollouts(np.array([0.1] * 10 + scores), np.array([0, 10, 10 + len(scores)]), 0.0)
    total = 0.0
    for _ in range(10):
        total += 0.1
    assert total != 1.0
    assert parts.reliability[0] == total / 10


@given(SCORES, st.floats(0, 1))
def test_bis_lies_between_zero_and_a_quarter_more_than_alpha(scores: list[float], alpha: float) -> None:
    assert 0.0 <= balanced_information_score(scores, alpha) <= 0.25 + alpha


def test_a_threshold_moves_low_scores_among_the_negatives() -> None:
    scores = [0.0625, 1.0]
    assert balanced_information_score(scores, 0.05, threshold=0.0625) == (0.5 * 0.5 + 0.05) * 1.0
