"""Lower confidence bounds of an evaluation's numbers: what chance alone in the choice of questions explains.

Questions are drawn with replacement, each with all steps of all its solutions; the threshold stays.  All
resamples are counted at once: a draw is a weight of every question.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ray_train.evaluation.scored_steps import Bools, Floats, ScoredSteps

RESAMPLES = 2000
_AT_ONCE = 4_000_000  # weights of steps in memory

Weights = npt.NDArray[np.int64]


def lower_bounds(
    steps: ScoredSteps, threshold: float, seed: int, confidence: float
) -> dict[str, float | None]:
    """What each metric of `metrics.report` is at least, one-sided, with ``confidence`` in (0, 1).

    None where it has none in most of the resamples: AUC where one kind of step is rare.
    """
    names, question = np.unique(steps.questions, return_inverse=True)
    counts = _confusions(steps, question, len(names), threshold)
    order = np.argsort(steps.rewards, kind="stable")
    drawn: dict[str, list[Floats]] = {"overall_f1": [], "pooled_macro_f1": [], "auc": []}
    for weights in _draws(len(names), len(steps), seed):
        confusions = np.tensordot(weights, counts, axes=1)
        drawn["overall_f1"].append(_overall(confusions))
        drawn["pooled_macro_f1"].append(_macro_f1(confusions.sum(1)))
        of_steps = weights[:, question[order]]
        drawn["auc"].append(_areas(of_steps, steps.rewards[order], steps.correct[order]))
    return {name: _quantile(np.concatenate(parts), 1 - confidence) for name, parts in drawn.items()}


def _draws(questions: int, steps: int, seed: int) -> Iterator[Weights]:
    """How often each resample draws each question: ``[some of the resamples, questions]``."""
    rng, left = np.random.default_rng(seed), RESAMPLES
    while left:
        some = min(left, max(1, _AT_ONCE // steps))
        yield rng.multinomial(questions, np.full(questions, 1 / questions), size=some)
        left -= some


def _confusions(
    steps: ScoredSteps, question: npt.NDArray[np.intp], questions: int, threshold: float
) -> Weights:
    """Steps by question, source, judgement and prediction: ``[questions, sources, 2, 2]``."""
    sources, source = np.unique(steps.sources, return_inverse=True)
    counts = np.zeros((questions, len(sources), 2, 2), np.int64)
    predicted = steps.rewards >= threshold
    np.add.at(counts, (question, source, steps.correct.astype(int), predicted.astype(int)), 1)
    return counts


def _macro_f1(confusions: Weights) -> Floats:
    """As `metrics.macro_f1`, of ``[..., judgement, prediction]``."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    met = confusions.sum(-1) + confusions.sum(-2)
    return np.asarray((2 * hits / np.maximum(met, 1)).mean(-1))


def _overall(confusions: Weights) -> Floats:
    """As `metrics.overall`, of ``[resamples, sources, judgement, prediction]``."""
    of_source = confusions.sum((-2, -1))
    return np.asarray((_macro_f1(confusions) * of_source).sum(-1) / of_source.sum(-1))


def _areas(weights: Weights, rewards: Floats, correct: Bools) -> Floats:
    """As `metrics.area_under_curve`, of ``[resamples, steps]`` by reward; NaN where one kind is missing."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(rewards) > 0]))
    right, wrong = (np.add.reduceat(weights * kind, starts, axis=1) for kind in (correct, ~correct))
    below = np.cumsum(wrong, axis=1) - wrong / 2  # of equal rewards a half
    pairs = right.sum(1) * wrong.sum(1)
    with np.errstate(invalid="ignore"):
        return np.asarray((right * below).sum(1) / pairs)


def _quantile(values: Floats, share: float) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, share)) if 2 * len(known) > len(values) else None
