"""Confidence intervals of metrics, by a bootstrap over questions.

A resample draws as many questions as there are, with replacement, each with all steps of all its solutions;
the threshold is kept. The same seed gives the same draws, so metrics of two models can be compared in pairs.
"""

import numpy as np

from ray_train.evaluation.steps import Floats

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
