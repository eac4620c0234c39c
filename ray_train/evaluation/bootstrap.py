"""Confidence intervals of metrics, by a bootstrap over questions.

A resample draws as many questions as there are, with replacement, each with all steps of all its solutions;
the threshold is kept. The same seed gives the same draws, so metrics of two models can be compared in pairs.
"""

from typing import Any

import numpy as np

from ray_train.evaluation.metrics import Floats, Measured, ScoredSteps, measure

RESAMPLES = 2000
RAISED = ("calibration_error",)  # metrics that resampling raises


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
    low, high = (quantile(values, (1 + side * confidence) / 2) for side in (-1, 1))
    return None if low is None or high is None else [low, high]


def around(estimate: float, ends: list[float] | None, least: float) -> list[float] | None:
    """Return the interval around a metric that reaches as far as the farther one of ``ends``.

    For a metric that resampling raises, such as the calibration error: in a resample each bin has fewer
    different steps, so it is farther from its mean. The central interval is often above the metric itself;
    this one holds it, and the true value at least as often as it says.
    """
    if ends is None:
        return None
    reach = max(ends[1] - estimate, estimate - ends[0])
    return [max(estimate - reach, least), estimate + reach]


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
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for scope in values:
        difference = {name: values[scope][name] - other[scope][name] for name in values[scope]}
        of_resamples = {name: drawn[scope][name] - other_drawn[scope][name] for name in values[scope]}
        plainly, ends = plain(difference), intervals(difference, of_resamples, confidence, least=-1.0)
        found[scope] = {name: {"difference": plainly[name], "interval": ends[name]} for name in difference}
    return found


def plain(metrics: dict[str, Floats]) -> dict[str, float | None]:
    """Return the first value of each metric; None for NaN."""
    return {name: None if np.isnan(value[0]) else float(value[0]) for name, value in metrics.items()}


def intervals(
    values: dict[str, Floats], drawn: dict[str, Floats], confidence: float, least: float = 0.0
) -> dict[str, list[float] | None]:
    """Return the `interval` of each metric.

    Args:
        values: The metrics themselves.
        drawn: Those of the resamples.
        confidence: In (0, 1).
        least: The smallest value that a metric can have.
    """
    found = {name: interval(of_resamples, confidence) for name, of_resamples in drawn.items()}
    for name in RAISED:
        found[name] = around(float(values[name][0]), found[name], least)
    return found
