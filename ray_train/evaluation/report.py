"""The report of an evaluation: all metrics with confidence intervals, beside the position baseline.

Metrics that are undefined, such as AUC where all steps are right, are None.
"""

from typing import Any

from ray_train.choices import CALIBRATION, TEST
from ray_train.evaluation.bootstrap import RESAMPLES, differences, intervals, measured, plain, quantile
from ray_train.evaluation.metrics import ALL
from ray_train.evaluation.position import position_baseline
from ray_train.evaluation.steps import ScoredSteps
from ray_train.evaluation.thresholds import chosen_threshold, in_calibration_half

PROMOTED = ("overall_f1", "pooled_macro_f1", "auc")  # metrics with a lower bound, for `registry.promote`


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
        "lower_bounds": {name: quantile(drawn[ALL][name], 1 - confidence) for name in PROMOTED},
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
