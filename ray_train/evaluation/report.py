"""The report of an evaluation: all metrics with confidence intervals, beside the position baseline.

Metrics that are undefined, such as AUC where all steps are right, are None.

`position_baseline` sees neither picture nor text: it is a logistic regression on where a step is. Errors tend
to persist, so late steps are wrong more often, and a model can look good by position alone. A model that does
not beat this baseline has shown nothing else.

It has a threshold of its own, the best one on the questions that it was fitted on, also where the model's is
fixed: 0.5 or 0.85 may suit the model's rewards, but with it the baseline would look worse than what position
alone can do. Where the model's threshold is tuned on the reported steps, so is the baseline's: else the
difference would be that of the tuning. AUC, Brier score and calibration error do not depend on a threshold,
and neither does the statement whether the model beats the baseline.
"""

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ray_train.choices import CALIBRATION, PROMOTION_METRICS, TEST
from ray_train.evaluation.bootstrap import RESAMPLES, differences, intervals, measured, plain, quantile
from ray_train.evaluation.metrics import ALL, Bools, Floats, ScoredSteps
from ray_train.evaluation.thresholds import (
    choose_threshold,
    chosen_threshold,
    in_calibration_half,
    swept_threshold,
)


def report(
    steps: ScoredSteps, seed: int, confidence: float = 0.95, asked: str | float = CALIBRATION
) -> dict[str, Any]:
    """Choose the threshold and compute all metrics of an evaluation.

    Args:
        steps: All scored and judged steps.
        seed: Seed of the split into halves and of the resamples.
        confidence: Confidence of the intervals and of the one-sided lower bounds, in (0, 1).
        asked: Threshold: `choices.CALIBRATION`, `choices.TEST` or a fixed number. With the latter two all
            steps are reported.

    Returns:
        The metrics by name, for ``metrics.json``.

    Raises:
        TrainingError: There is no step to choose the threshold on or to report.
    """
    half = in_calibration_half(steps.questions.tolist(), seed)
    threshold, chosen_on, chosen = chosen_threshold(steps, half, asked)
    reported = steps.where(chosen)
    rewards, thresholds = (column[chosen] for column in position_baseline(steps, half, asked))
    by_position = ScoredSteps(**{**vars(reported), "rewards": rewards})
    values, drawn = measured(reported, threshold, seed)
    position, position_drawn = measured(by_position, thresholds, seed)
    return {
        "threshold": threshold,
        "threshold_on": chosen_on,
        "seed": seed,
        "steps": len(reported),
        "calibration_steps": len(steps) - len(reported),
        "confidence": confidence,
        "resamples": RESAMPLES,
        **plain(values[ALL]),
        "lower_bounds": {name: quantile(drawn[ALL][name], 1 - confidence) for name in PROMOTION_METRICS},
        "intervals": intervals(values[ALL], drawn[ALL], confidence),
        "sources": {
            source: {
                "steps": int((of_source := reported.sources == source).sum()),
                "correct_share": float(reported.correct[of_source].mean()),
                **plain(values[source]),
                "intervals": intervals(values[source], drawn[source], confidence),
                "position_auc": plain(position[source])["auc"],
            }
            for source in sorted(set(reported.sources.tolist()))
        },
        "position_baseline": {
            **plain(position[ALL]),
            "threshold_on": TEST if asked == TEST else CALIBRATION,
            "differences": differences(values, drawn, position, position_drawn, confidence)[ALL],
        },
    }


def position_baseline(
    steps: ScoredSteps, half: Bools, asked: str | float = CALIBRATION
) -> tuple[Floats, Floats]:  # fmt: skip
    """Return the baseline's reward and threshold of each step, both from the questions of the other half.

    With the default threshold this means: fitted on the calibration half, and reported on the other one. No
    step is predicted by a fit that has seen its question, whichever steps are reported.

    Args:
        steps: All scored and judged steps.
        half: Which of them are in the calibration half.
        asked: The model's threshold; with `choices.TEST` that of the baseline is tuned on all steps, too.

    Returns:
        Rewards and thresholds, float64 ``[steps]`` each.
    """
    rewards, thresholds = np.full(len(steps), 0.5), np.full(len(steps), 0.5)
    for fitted in (half, ~half):
        if fitted.any() and not fitted.all():
            known, others = steps.where(fitted), steps.where(~fitted)
            inside, rewards[~fitted] = _fitted(known, others)
            thresholds[~fitted] = choose_threshold(_with_rewards(known, inside))
    if asked == TEST:
        thresholds[:] = swept_threshold(_with_rewards(steps, rewards))
    return rewards, thresholds


def _fitted(known: ScoredSteps, others: ScoredSteps) -> tuple[Floats, Floats]:
    """Fit P(right) on ``known`` and return it for ``known`` and for ``others``."""
    if known.correct.all() or not known.correct.any():
        share = float(known.correct.mean())
        return np.full(len(known), share), np.full(len(others), share)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(_features(known), known.correct)
    return model.predict_proba(_features(known))[:, 1], model.predict_proba(_features(others))[:, 1]


def _features(steps: ScoredSteps) -> Floats:
    """Return position, number of steps, and their ratio, float64 ``[steps, 3]``."""
    return np.stack([steps.positions, steps.lengths, steps.positions / steps.lengths], axis=1)


def _with_rewards(steps: ScoredSteps, rewards: Floats) -> ScoredSteps:
    return ScoredSteps(**{**vars(steps), "rewards": rewards})
