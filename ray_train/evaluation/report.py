"""The report of an evaluation: all metrics with confidence intervals, beside the position baseline.

Metrics that are undefined, such as AUC where all steps are right, are None.
"""

from typing import Any

import numpy as np

from bisieve._text import aligned
from bisieve.errors import TrainingError
from ray_train.choices import CALIBRATION, FIXED, TEST
from ray_train.evaluation.bootstrap import RESAMPLES, draws, interval, once, quantile
from ray_train.evaluation.metrics import ALL, LOWER_IS_BETTER, Measured, measure
from ray_train.evaluation.position import position_baseline
from ray_train.evaluation.steps import Floats, ScoredSteps
from ray_train.evaluation.thresholds import chosen_threshold, in_calibration_half

PROMOTED = ("overall_f1", "pooled_macro_f1", "auc")  # metrics with a lower bound, for `registry.promote`
NAMES = {
    "overall_f1": "macro-F1, sources by steps",
    "pooled_macro_f1": "macro-F1, all steps pooled",
    "unweighted_f1": "macro-F1, sources alike",
    "macro_f1": "macro-F1",
    "f1_right": "F1 of right steps",
    "f1_wrong": "F1 of wrong steps",
    "auc": "AUC",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "first_error_accuracy": "first error found",
    "accuracy_on_wrong": "  of wrong solutions",
    "accuracy_on_right": "  of right solutions",
    "processbench_f1": "ProcessBench's F1",
}


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
        TrainingError: A reward is not finite, or there is no step to choose the threshold on or to report.
    """
    if broken := int((~np.isfinite(steps.rewards)).sum()):
        raise TrainingError(
            "a number as the reward of every step", f"{broken} of {len(steps)} that are none (nan or inf)",
            "evaluate another checkpoint: the weights of this model are broken",
        )  # fmt: skip
    half = in_calibration_half(steps.questions.tolist(), seed)
    threshold, chosen_on, chosen = chosen_threshold(steps, half, asked)
    reported = steps.where(chosen)
    rewards, thresholds = (column[chosen] for column in position_baseline(steps, half))
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
        **_plain(values[ALL]),
        "lower_bounds": {name: quantile(drawn[ALL][name], 1 - confidence) for name in PROMOTED},
        "intervals": _intervals(drawn[ALL], confidence),
        "sources": {
            source: {
                "steps": int((of_source := reported.sources == source).sum()),
                "correct_share": float(reported.correct[of_source].mean()),
                **_plain(values[source]),
                "intervals": _intervals(drawn[source], confidence),
                "position_auc": _plain(position[source])["auc"],
            }
            for source in sorted(set(reported.sources.tolist()))
        },
        "position_baseline": {
            **_plain(position[ALL]),
            "differences": differences(values, drawn, position, position_drawn, confidence)[ALL],
        },
    }


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
                "difference": _plain({name: values[scope][name] - other[scope][name]})[name],
                "interval": interval(drawn[scope][name] - other_drawn[scope][name], confidence),
            }
            for name in values[scope]
        }
        for scope in values
    }


def _plain(metrics: dict[str, Floats]) -> dict[str, float | None]:
    """Return the first value of each metric; None for NaN."""
    return {name: None if np.isnan(value[0]) else float(value[0]) for name, value in metrics.items()}


def _intervals(drawn: dict[str, Floats], confidence: float) -> dict[str, list[float] | None]:
    return {name: interval(values, confidence) for name, values in drawn.items()}


def table(numbers: dict[str, Any]) -> str:
    """Format the result of `report` as two tables and a few sentences, at most 100 columns wide."""
    parts = [aligned(source_rows(numbers)), [""], aligned(metric_rows(numbers)), notes(numbers)]
    return "\n".join(line for part in parts for line in part)


def source_rows(numbers: dict[str, Any]) -> list[list[str]]:
    """Return a row for each source, after the titles."""
    percent = f"{100 * numbers['confidence']:g} %"
    titles = ["source", "steps", "right", "macro-F1", percent, "AUC", percent, "by position"]
    return [
        titles,
        *(
            [
                name[:24], f"{entry['steps']:,}", f"{entry['correct_share']:.1%}",
                number(entry["macro_f1"]), ends(entry["intervals"]["macro_f1"]),
                number(entry["auc"]), ends(entry["intervals"]["auc"]), number(entry["position_auc"]),
            ]
            for name, entry in numbers["sources"].items()
        ),
    ]  # fmt: skip


def metric_rows(numbers: dict[str, Any]) -> list[list[str]]:
    """Return a row for each metric of all sources together, after the titles."""
    percent, position = f"{100 * numbers['confidence']:g} %", numbers["position_baseline"]
    return [
        [f"all {numbers['steps']:,} steps", "model", percent, "by position", "difference", percent],
        *(
            [
                name + ("  (less is better)" if metric in LOWER_IS_BETTER else ""),
                number(numbers[metric]), ends(numbers["intervals"][metric]), number(position[metric]),
                number(position["differences"][metric]["difference"], signed=True),
                ends(position["differences"][metric]["interval"], signed=True),
            ]
            for metric, name in NAMES.items() if metric in numbers
        ),
    ]  # fmt: skip


def notes(numbers: dict[str, Any]) -> list[str]:
    """Return what has to be said of the threshold, and of the position baseline if it is not beaten."""
    chosen = {
        CALIBRATION: f"chosen on {numbers['calibration_steps']:,} other steps",
        FIXED: "fixed",
        TEST: "TUNED ON THE TEST SET, on these very steps: F1 and accuracies are too good",
    }
    lines = [f"threshold {numbers['threshold']:.4f}, {chosen[numbers['threshold_on']]}"]
    found = numbers["position_baseline"]["differences"]["auc"]["interval"]
    if found is not None and found[0] <= 0:
        lines.append(
            "this model does not beat a guess by the position of a step alone: the interval of the\n"
            "difference in AUC is not above 0, so nothing shows that it has learned to judge steps"
        )
    return lines


def number(value: float | None, signed: bool = False) -> str:
    """Return a metric as text for a table."""
    return "none" if value is None else f"{value:{'+' if signed else ''}.4f}"


def ends(found: list[float] | None, signed: bool = False) -> str:
    """Return an interval as text for a table, such as "0.612…0.640"."""
    return "none" if found is None else "…".join(f"{end:{'+' if signed else ''}.3f}" for end in found)
