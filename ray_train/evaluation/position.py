"""The baseline that sees neither picture nor text: a logistic regression on where a step is.

Errors tend to persist, so late steps are wrong more often, and a model can look good by position alone. A
model that does not beat this baseline has shown nothing else.

Its threshold is its own, the best one on the questions that it was fitted on, also where the model's is
fixed: 0.5 or 0.85 may suit the model's rewards, and no guess is one of its rewards, so with it the baseline
would look worse than what position alone can do. Only where the model's threshold is tuned on the reported
steps, so is the baseline's: else the difference would be that of the tuning. AUC, Brier score and calibration
error, and what is said of the baseline, do not depend on a threshold.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ray_train.choices import CALIBRATION, TEST
from ray_train.evaluation.steps import Bools, Floats, ScoredSteps
from ray_train.evaluation.thresholds import choose_threshold, swept_threshold


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
