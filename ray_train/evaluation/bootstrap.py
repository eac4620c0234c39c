"""Confidence intervals of metrics, by a bootstrap over questions.

A resample draws as many questions as there are, with replacement, each with all steps of all its solutions;
the threshold is kept. The same seed gives the same draws, so metrics of two models can be compared in pairs.
"""

from typing import Any

import numpy as np

from ray_train.evaluation.metrics import Measured, measure
from ray_train.evaluation.steps import Floats, ScoredSteps

RESAMPLES = 2000


def draws(questions: int, seed: int) -> Floats:
    """Return how often each resample draws each question, float64 ``[RESAMPLES, questions]``."""
    chances = np.full(questions, 1 / questions)
    drawn = np.random.default_rng(seed).multinomial(questions, chances, size=RESAMPLES)
    return drawn.astype(np.float64)


def once(questions: int) -> Floats:
    """Return the weights with which `metrics.measure` gives the metrics themselves: each question once."""
    return np.ones((1, questions))


def interval(values: Floats, confidence: float) -> list[float] | None:
    """Return the ends of the central interval of a metric over all resamples; None as in `quantile`."""
    ends = [quantile(values, (1 + side * confidence) / 2) for side in (-1, 1)]
    return None if None in ends else [float(end or 0.0) for end in ends]


def quantile(values: Floats, share: float) -> float | None:
    """Return a quantile of a metric over all resamples.

    None if it is undefined in at least half of the resamples, as AUC is where one kind of step is rare.
    """
    known = values[~np.isnan(values)]
    return float(np.quantile(known, share)) if 2 * len(known) > len(values) else None


def measured(steps: ScoredSteps, threshold: float | Floats, seed: int) -> tuple[Measured, Measured]:
    """Return all metrics of ``steps`` themselves and of their resamples; arguments as in `measure`."""
    questions, sources = np.unique(steps.questions), np.unique(steps.sources)
    weights = once(len(questions)), draws(len(questions), seed)
    values, drawn = (measure(steps, threshold, each, questions, sources) for each in weights)
    return values, drawn


def differences(
    values: Measured, drawn: Measured, other: Measured, other_drawn: Measured, confidence: float
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by scope and metric the difference of two models on the same steps, with its interval.

    Args:
        values: Metrics of a model.
        drawn: Those of its resamples.
        other: Metrics of the model that is subtracted.
        other_drawn: Those of its resamples, which draw the same questions.
        confidence: Of the intervals, in (0, 1).
    """
    return {
        scope: {
            name: {
                "difference": plain({name: values[scope][name] - other[scope][name]})[name],
                "interval": interval(drawn[scope][name] - other_drawn[scope][name], confidence),
            }
            for name in values[scope]
        }
        for scope in values
    }


def plain(metrics: dict[str, Floats]) -> dict[str, float | None]:
    """Return the first value of each metric; None for NaN."""
    return {name: None if np.isnan(value[0]) else float(value[0]) for name, value in metrics.items()}


def intervals(drawn: dict[str, Floats], confidence: float) -> dict[str, list[float] | None]:
    """Return the `interval` of each metric."""
    return {name: interval(values, confidence) for name, values in drawn.items()}
