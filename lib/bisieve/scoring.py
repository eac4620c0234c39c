"""The Balanced-Information Score, BIS = (p(1−p) + α)·R (paper §4).

Both forms below do the same float64 operations in the same order, so equal inputs give equal bits.  The
mean runs strictly left to right: neither ``sum()``, compensated from Python 3.12 on, nor numpy's pairwise
sums do that.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DEFAULT_ALPHA = 0.05  # the paper's choice at a fraction of 25 %


class ScoreParts(NamedTuple):
    """BIS and what it is made of, one entry a rollout."""

    bis: npt.NDArray[np.float64]
    positive_fraction: npt.NDArray[np.float64]  # p
    reliability: npt.NDArray[np.float64]  # R
    num_positive: npt.NDArray[np.int32]


def balanced_information_score(
    scores: Sequence[float], alpha: float = DEFAULT_ALPHA, threshold: float = 0.0
) -> float:
    """BIS of one rollout from its steps' MC scores (paper §4).

    A step is positive when its score exceeds ``threshold``; p is the share of positive steps and R the mean
    score of the positive ones, 1 where there are none.

    Raises:
        ValueError: there is no step, a score is not a number in [0, 1], or an option is not finite.
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
    """BIS of many rollouts; rollout i owns ``scores[offsets[i]:offsets[i + 1]]``, at least one step.

    ``scores`` is flat, float64; ``offsets`` has one entry more than there are rollouts.

    Raises:
        ValueError: as `balanced_information_score`.
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
    # bincount adds its weights one after the other, which is the order that the scalar form has.
    sums = np.bincount(owner, weights=scores[positive], minlength=num_rollouts)
    p = num_positive / num_steps
    reliability = np.where(num_positive > 0, sums / np.maximum(num_positive, 1), 1.0)
    return ScoreParts((p * (1.0 - p) + alpha) * reliability, p, reliability, num_positive.astype(np.int32))
