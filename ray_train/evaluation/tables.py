"""Tables of an evaluation's metrics for a terminal, at most 100 columns wide."""

from typing import Any

from bisieve._text import Report, Table, percent
from ray_train.choices import CALIBRATION, FIXED, TEST
from ray_train.evaluation.metrics import LOWER_IS_BETTER

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


def table(numbers: dict[str, Any]) -> Report:
    """Format the result of `report.report` as two tables and a few sentences, at most 100 columns wide."""
    tables = [Table(rows[0], rows[1:]) for rows in (source_rows(numbers), metric_rows(numbers))]
    return Report(tables[0], "", tables[1], *notes(numbers))


def source_rows(numbers: dict[str, Any]) -> list[list[str]]:
    """Return a row for each source, after the titles."""
    confidence = percent(numbers["confidence"])
    titles = ["source", "steps", "right", "macro-F1", confidence, "AUC", confidence, "by position"]
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
    confidence, position = percent(numbers["confidence"]), numbers["position_baseline"]
    return [
        [f"all {numbers['steps']:,} steps", "model", confidence, "by position", "difference", confidence],
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
        FIXED: "fixed; by position: its own, chosen on questions that it does not predict",
        TEST: "TUNED ON THE TEST SET, on these very steps: F1 and accuracies are too good",
    }
    lines = [f"threshold {numbers['threshold']:.4f}, {chosen[numbers['threshold_on']]}"]
    names = {"overall_f1": "macro-F1", "pooled_macro_f1": "pooled", "auc": "AUC"}
    bounds = ", ".join(f"{name} {number(numbers['lower_bounds'][metric])}" for metric, name in names.items())
    lines.append(f"lower bounds ({percent(numbers['confidence'])}, one-sided): {bounds}")
    if beats_position(numbers) is False:
        lines.append(
            "this model does not beat a guess by the position of a step alone: the interval of the "
            "difference in AUC is not above 0, so nothing shows that it has learned to judge steps"
        )
    return lines


def beats_position(numbers: dict[str, Any]) -> bool | None:
    """Return whether a model is shown to have a higher AUC than the position of a step alone.

    Args:
        numbers: Content of ``metrics.json``.

    Returns:
        None if the AUC is undefined.
    """
    found = numbers["position_baseline"]["differences"]["auc"]["interval"]
    return None if found is None else bool(found[0] > 0)


def number(value: float | None, signed: bool = False) -> str:
    """Return a metric as text for a table."""
    return "none" if value is None else f"{value:{'+' if signed else ''}.4f}"


def ends(found: list[float] | None, signed: bool = False) -> str:
    """Return an interval as text for a table, such as "0.612…0.640"."""
    return "none" if found is None else "…".join(f"{end:{'+' if signed else ''}.3f}" for end in found)
