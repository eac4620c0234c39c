"""The threshold at or above which a step is predicted right: chosen on other steps, fixed, or tuned.

By default it is chosen on one half of the questions, and the other half is reported: a threshold tuned on
the reported steps would flatter the model. The paper's code does tune it on these, and so does
``--threshold test``, for comparisons. A fixed number needs no other steps: all are reported.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xxhash

from bisieve.errors import TrainingError
from ray_train.choices import CALIBRATION, FIXED, TEST
from ray_train.evaluation.metrics import Bools, Floats, ScoredSteps, macro_f1

_CANDIDATES = 100  # quantile steps of the rewards of the calibration half, whose ends are tried as thresholds
_MOST_SWEPT = 1000  # of n rewards the paper's code tries every (n // 1000)-th as threshold


class Chosen(NamedTuple):
    """A threshold, what it was chosen on, and which steps are reported with it."""

    threshold: float
    chosen_on: str  # CALIBRATION, TEST or FIXED
    reported: Bools  # [steps]


def in_calibration_half(questions: Sequence[str], seed: int) -> Bools:
    """Return which questions are in the half on which the threshold is chosen, bool ``[questions]``.

    A hash of key and seed decides, so that the other questions of a benchmark do not matter.
    """
    hashes = [xxhash.xxh3_64_intdigest(f"{seed}\n{question}".encode()) for question in questions]
    return np.array([value % 2 == 0 for value in hashes], dtype=np.bool_)


def is_reported(half: Bools, asked: str | float) -> Bools:
    """Return what is reported: all but the calibration half, or everything if no threshold is chosen on it.

    Args:
        half: Which steps or questions are in the calibration half.
        asked: `CALIBRATION`, or any other threshold or way to choose it.
    """
    return ~half if asked == CALIBRATION else np.ones(len(half), np.bool_)


def check_judged_steps(half: Bools, asked: str | float) -> None:
    """Check that there are steps to choose the threshold on and to report.

    Args:
        half: Which of the judged steps are in the calibration half.
        asked: As of `chosen_threshold`.

    Raises:
        TrainingError: There are none.
    """
    if not len(half):
        raise TrainingError("a judged step that the model scored", "none", "give another benchmark")
    if asked == CALIBRATION and (half.all() or not half.any()):
        raise TrainingError(
            "judged steps of several questions in the benchmark, for two halves",
            f"{int(half.sum())} and {int((~half).sum())} steps",
            "give a larger benchmark, another --seed, or a number as --threshold",
        )


def chosen_threshold(steps: ScoredSteps, half: Bools, asked: str | float) -> Chosen:
    """Choose the threshold and the steps to report.

    Args:
        steps: All scored and judged steps.
        half: Which of them are in the calibration half.
        asked: `CALIBRATION`, `TEST` or a fixed threshold.

    Raises:
        TrainingError: There is no step to choose the threshold on or to report.
    """
    check_judged_steps(half, asked)
    reported = is_reported(half, asked)
    if not isinstance(asked, str):
        return Chosen(asked, FIXED, reported)
    if asked == TEST:
        return Chosen(swept_threshold(steps), TEST, reported)
    return Chosen(choose_threshold(steps.where(half)), CALIBRATION, reported)


def choose_threshold(steps: ScoredSteps) -> float:
    """Return the threshold with the best overall F1 on ``steps``, the lowest if several are equal.

    The candidates are 101 quantiles of the rewards.
    """
    shares = np.linspace(0, 1, _CANDIDATES + 1)
    return _best(steps, np.unique(np.quantile(steps.rewards, shares, method="nearest")))


def swept_threshold(steps: ScoredSteps) -> float:
    """Return the threshold that the paper's code would choose on ``steps``.

    The candidates are the distinct rewards, rounded to four digits; from 2000 of these on only every n-th.
    """
    candidates = sorted({round(reward, 4) for reward in steps.rewards.tolist()})
    return _best(steps, np.array(candidates[:: max(1, len(candidates) // _MOST_SWEPT)]))


def _best(steps: ScoredSteps, candidates: Floats) -> float:
    """Return the first of the ascending ``candidates`` with the best overall F1."""
    scores = np.zeros(len(candidates))
    for source in sorted(set(steps.sources.tolist())):
        part = steps.where(steps.sources == source)
        scores += macro_f1(_confusions(candidates, part)) * len(part)
    return float(candidates[scores.argmax()])


def _confusions(thresholds: Floats, steps: ScoredSteps) -> Floats:
    """Count steps by judgement and prediction at each threshold, float64 ``[thresholds, 2, 2]``."""
    counts = []
    for kind in (~steps.correct, steps.correct):
        below = np.searchsorted(np.sort(steps.rewards[kind]), thresholds)
        counts.append(np.stack([below, kind.sum() - below], axis=-1))
    return np.stack(counts, axis=-2).astype(np.float64)
