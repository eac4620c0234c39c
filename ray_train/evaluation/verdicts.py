"""What the interval of a difference shows: which model is better, that it does not matter, or nothing.

An interval that contains 0 shows no difference, and no equality either. With a margin δ, two models are
equivalent in a metric if the interval is inside (−δ, δ): two one-sided tests (Schuirmann, 1987), each at half
of what the confidence leaves.

A bootstrap knows nothing of what none of its questions shows: for two models that agree on all of ten
questions the interval is [0, 0]. So there must be as many questions as are needed to see, with the same
confidence, what occurs in a share δ of them: 3/δ at 95 % (the rule of three).
"""

from collections.abc import Sequence
from math import ceil, log

from ray_train.evaluation.metrics import LOWER_IS_BETTER


def better(metric: str, interval: Sequence[float] | None) -> str | None:
    """Return "A" or "B" if the interval of B − A shows which is better; None if it contains 0."""
    if interval is None or interval[0] <= 0 <= interval[1]:
        return None
    return "B" if (interval[0] > 0) != (metric in LOWER_IS_BETTER) else "A"


def is_equivalent(
    interval: Sequence[float] | None, margin: float | None, questions: int, confidence: float
) -> bool | None:  # fmt: skip
    """Return whether a difference is shown to be inside ±``margin``; None without a margin or an interval.

    Args:
        interval: Of the difference.
        margin: In (0, 1).
        questions: From which the interval is.
        confidence: Of the interval, in (0, 1).
    """
    if interval is None or margin is None:
        return None
    return bool(-margin < interval[0] and interval[1] < margin and questions >= least(margin, confidence))


def least(margin: float, confidence: float) -> int:
    """Return how many questions are needed to call two models equivalent."""
    return ceil(-log(1 - confidence) / margin)
