"""The Balanced-Information Score, BIS = (p(1−p) + α)·R (paper §4).

`balanced_information_score` scores one rollout and `score_rollouts` many at once.  Both do the same float64
operations in the same order, so equal inputs give equal bits.  The sum of the scores runs strictly from left
to right: ``sum()`` is compensated from Python 3.12 on, and numpy adds pairwise.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DEFAULT_ALPHA = 0.05  # the paper's choice at a fraction of 25 % (Table 5)


class ScoreParts(NamedTuple):
    """BIS of many rollouts and its parts; each array has one entry per rollout."""

    bis: npt.NDArray[np.float64]
    positive_fraction: npt.NDArray[np.float64]  # p
    reliability: npt.NDArray[np.float64]  # R
    num_positive: npt.NDArray[np.int32]


def balanced_information_score(
    scores: Sequence[float], alpha: float = DEFAULT_ALPHA, threshold: float = 0.0
) -> float:
    """Return the BIS of one rollout, (p(1−p) + α)·R, from the MC scores of its steps (paper §4).

    p is the share of positive steps, and R the mean score of the positive steps, or 1 if there are none.

    Args:
        scores: One MC score in [0, 1] per step.
        alpha: α; a rollout whose steps are all positive or all negative scores α·R.
        threshold: A step is positive if its score is greater.

    Raises:
        ValueError: There is no step, a score is not in [0, 1], or ``alpha`` or ``threshold`` is not finite.
    """
    if not len(scores):
        raise ValueError("BIS needs at least one step")
    if (wrong := next((score for score in scores if not 0.0 <= score <= 1.0), None)) is not None:
        raise ValueError(f"BIS needs scores in [0, 1], found {wrong}")
    _check_options(alpha, threshold)
    positive = [score for score in scores if score > threshold]
    p = len(positive) / len(scores)
    reliability = _left_to_right_sum(positive) / len(positive) if positive else 1.0
    return (p * (1.0 - p) + alpha) * reliability


def _check_options(alpha: float, threshold: float) -> None:
    for name, value in (("alpha", alpha), ("threshold", threshold)):
        if not math.isfinite(value):
            raise ValueError(f"BIS needs a finite {name}, found {value}")


def _left_to_right_sum(values: Sequence[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


def score_rollouts(
    scores: npt.NDArray[np.float64],
    offsets: npt.NDArray[np.int64],
    alpha: float = DEFAULT_ALPHA,
    threshold: float = 0.0,
) -> ScoreParts:
    """Return the BIS of many rollouts with the same bits as `balanced_information_score`.

    Args:
        scores: MC scores of all steps of all rollouts, in order (float64 [steps]).
        offsets: Rollout i has the scores ``scores[offsets[i]:offsets[i + 1]]``, at least one
            (int64 [rollouts + 1], from 0).
        alpha: As in `balanced_information_score`.
        threshold: As in `balanced_information_score`.

    Raises:
        ValueError: As in `balanced_information_score`.
    """
    num_rollouts = len(offsets) - 1
    num_steps = np.diff(offsets)
    if not (num_steps > 0).all():
        raise ValueError("BIS needs at least one step")
    in_range = (scores >= 0.0) & (scores <= 1.0)  # false for NaN
    if not in_range.all():
        raise ValueError(f"BIS needs scores in [0, 1], found {scores[~in_range][0]}")
    _check_options(alpha, threshold)
    positive = scores > threshold
    owner = np.repeat(np.arange(num_rollouts), num_steps)[positive]
    num_positive = np.bincount(owner, minlength=num_rollouts)
    # bincount adds its weights one after the other, in the same order as the scalar form.
    sums = np.bincount(owner, weights=scores[positive], minlength=num_rollouts)
    p = num_positive / num_steps
    reliability = np.where(num_positive > 0, sums / np.maximum(num_positive, 1), 1.0)
    return ScoreParts((p * (1.0 - p) + alpha) * reliability, p, reliability, num_positive.astype(np.int32))
