"""The charts of an evaluation: Vega-Lite specifications from its metrics and its scored steps."""

from math import sqrt
from typing import Any

import numpy as np

from bisieve.report.charts import COLOURS, Rows, axis, bar_chart, interval_chart, line_chart
from bisieve.report.page import Chart, Spec
from ray_train.evaluation.metrics import ALL, BINS, Floats, ScoredSteps, f1_of_kinds

_POINTS = 200  # of a curve
_ROC_SOURCES = 4  # whose curves are shown beside that of all, the largest ones
_FEWEST = 30  # steps at a place of the solution, below which it is not shown
_THRESHOLDS = np.linspace(0, 1, 101)
_Z = 1.96  # of a 95 % interval
_DATA = {"content": "data"}  # a tooltip with all values of a row


def source_charts(numbers: dict[str, Any]) -> list[Chart]:
    """Return macro-F1 and AUC of each source with their intervals, AUC beside that by position."""
    named = [*numbers["sources"].items()]
    f1 = [_interval(name, entry, "macro_f1") for name, entry in named]
    auc = [_interval(name, entry, "auc", "model") for name, entry in named]
    auc += [
        {"source": name, "series": "by position alone", "value": entry["position_auc"]}
        for name, entry in named
        if entry["position_auc"] is not None
    ]
    whole = {**numbers, "macro_f1": numbers["pooled_macro_f1"]}
    whole["intervals"] = {**numbers["intervals"], "macro_f1": numbers["intervals"]["pooled_macro_f1"]}
    f1.append(_interval(ALL, whole, "macro_f1"))
    auc.append(_interval(ALL, whole, "auc", "model"))
    if (position := numbers["position_baseline"]["auc"]) is not None:
        auc.append({"source": ALL, "series": "by position alone", "value": position})
    x = axis("value", "macro-F1", form=".2f", scale={"zero": False})
    y = axis("value", "AUC", form=".2f", scale={"zero": False})
    by_model = ("model", "by position alone")
    return [
        Chart("Macro-F1 by source", interval_chart([row for row in f1 if row], "source", x, "low", "high")),
        Chart(
            "AUC by source", interval_chart([row for row in auc if row], "source", y, "low", "high", by_model)
        ),
    ]


def _interval(name: str, entry: dict[str, Any], metric: str, series: str = "") -> dict[str, Any]:
    value, ends = entry[metric], entry["intervals"][metric]
    if value is None:
        return {}
    row = {"source": name, "value": value, **({"series": series} if series else {})}
    return row | ({"low": ends[0], "high": ends[1]} if ends else {})


def roc_chart(steps: ScoredSteps) -> Chart:
    """Return the ROC curves of all steps and of the largest sources."""
    names, counts = np.unique(steps.sources, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][:_ROC_SOURCES].tolist() if len(names) > 1 else []
    rows = _roc(ALL, steps)
    for name in largest:
        rows += _roc(name, steps.where(steps.sources == name))
    x = axis("wrong", "wrong steps that are predicted right", form=".0%", scale={"domain": [0, 1]})
    y = axis("right", "right steps that are predicted right", form=".0%", scale={"domain": [0, 1]})
    shown = [name for name in (ALL, *largest) if any(row["series"] == name for row in rows)]
    spec = line_chart(rows, x, y, shown, points=False)
    spec["layer"][0]["encoding"] |= {"order": {"field": "n", "type": "quantitative"}}
    return Chart("ROC: every threshold", _with_diagonal(spec, "wrong", "right"))


def _roc(name: str, steps: ScoredSteps) -> list[dict[str, Any]]:
    if steps.correct.all() or not steps.correct.any():
        return []
    order = np.argsort(-steps.rewards, kind="stable")
    rewards, correct = steps.rewards[order], steps.correct[order]
    ends = np.append(np.flatnonzero(np.diff(rewards)), len(rewards) - 1)  # equal rewards are one point
    right, wrong = np.cumsum(correct)[ends], np.cumsum(~correct)[ends]
    right, wrong = np.append(0, right) / right[-1], np.append(0, wrong) / wrong[-1]
    chosen = np.unique(np.linspace(0, len(right) - 1, _POINTS).astype(int))
    return [
        {"series": name, "n": n, "wrong": wrong[place], "right": right[place]}
        for n, place in enumerate(chosen.tolist())
    ]


def reliability_charts(steps: ScoredSteps) -> list[Chart]:
    """Return the reliability diagram with intervals, and how many steps have which reward."""
    number = np.clip((steps.rewards * BINS).astype(int), 0, BINS - 1)
    sizes = np.bincount(number, minlength=BINS)
    rewards, right = (
        np.bincount(number, weights=each, minlength=BINS) for each in (steps.rewards, steps.correct)
    )
    rows = []
    for place in np.flatnonzero(sizes).tolist():
        low, high = wilson(right[place] / sizes[place], int(sizes[place]))
        mean = rewards[place] / sizes[place]
        rows.append({
            "reward": mean, "share": right[place] / sizes[place], "low": low, "high": high,
            "steps": int(sizes[place]),
        })  # fmt: skip
    x = axis("reward", "mean reward", form=".1f", scale={"domain": [0, 1]})
    y = axis("share", "share of right steps", form=".0%", scale={"domain": [0, 1]})
    spec = line_chart(rows, x, y, band=("low", "high"))
    kinds = [
        {"reward": f"{place / BINS:.2f}", "series": kind, "steps": int(count)}
        for kind, numbers in (("right", right), ("wrong", sizes - right))
        for place, count in enumerate(numbers.tolist())
    ]
    counts = axis("steps", "steps", form=",.0f", axis={"tickMinStep": 1})
    bars = bar_chart(kinds, axis("reward", "reward from", "ordinal"), counts, ("right", "wrong"))
    note = "On the diagonal a reward of 0.8 means that 80 % of such steps are right."
    return [
        Chart("Reliability", _with_diagonal(spec, "reward", "share"), note),
        Chart("Steps by reward", bars),
    ]


def wilson(share: float, number: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of ``number`` independent draws (Wilson's)."""
    middle = share + _Z**2 / (2 * number)
    half = _Z * sqrt(share * (1 - share) / number + _Z**2 / (4 * number**2))
    whole = 1 + _Z**2 / number
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


def threshold_chart(steps: ScoredSteps, threshold: float) -> Chart:
    """Return F1 against the threshold, with the one that was used."""
    f1 = f1_of_kinds(_confusions(steps))
    series = {"macro-F1": f1.mean(-1), "F1 of right steps": f1[:, 1], "F1 of wrong steps": f1[:, 0]}
    rows = [
        {"threshold": at, "series": name, "F1": value}
        for name, values in series.items()
        for at, value in zip(_THRESHOLDS.tolist(), values.tolist(), strict=True)
    ]
    x = axis("threshold", "threshold", form=".1f", scale={"domain": [0, 1]})
    spec = line_chart(
        rows, x, axis("F1", "F1", form=".1f", scale={"domain": [0, 1]}), [*series], points=False
    )
    rule = {"type": "rule", "strokeDash": [4, 3], "tooltip": _DATA}
    spec["layer"].append({
        "data": {"values": [{"at": min(1.0, max(0.0, threshold)), "threshold used": threshold}]},
        "mark": rule,
        "encoding": {"x": {"field": "at", "type": "quantitative"}, "color": {"value": "var(--ink)"}},
    })  # fmt: skip
    note = f"All steps as one source. Dashed: the threshold that was used, {threshold:.4f}."
    return Chart("F1 against the threshold", spec, note)


def _confusions(steps: ScoredSteps) -> Floats:
    """Count steps by judgement and prediction at each threshold, float64 ``[thresholds, 2, 2]``."""
    counts = []
    for kind in (~steps.correct, steps.correct):
        below = np.searchsorted(np.sort(steps.rewards[kind]), _THRESHOLDS)
        counts.append(np.stack([below, kind.sum() - below], axis=-1))
    return np.stack(counts, axis=-2).astype(np.float64)


def position_charts(steps: ScoredSteps, threshold: float) -> list[Chart]:
    """Return metrics by the place of the step in its solution, where there are enough steps."""
    rows, shares = [], []
    for place in np.unique(steps.positions).tolist():
        here = steps.where(steps.positions == place)
        if len(here) < _FEWEST:
            continue
        accuracy = float(((here.rewards >= threshold) == here.correct).mean())
        values = {"accuracy": accuracy, "AUC among steps at this place": _auc(here)}
        rows += [
            {"step": place, "series": name, "value": value, "steps": len(here)}
            for name, value in values.items()
            if value is not None
        ]
        right = float(here.correct.mean())
        shares += [
            {"step": place, "series": "judged right", "share": right},
            {"step": place, "series": "mean reward", "share": float(here.rewards.mean())},
        ]
    x = axis("step", "step", "ordinal", axis={"labelAngle": 0})
    y = axis("value", "share, or AUC", form=".1f", scale={"domain": [0, 1]})
    of_it = axis("share", "share, or mean reward", form=".0%", scale={"domain": [0, 1]})
    note = f"Places with fewer than {_FEWEST} steps are left out."
    return [
        Chart(
            "By the place of the step",
            line_chart(rows, x, y, ("accuracy", "AUC among steps at this place")),
            note,
        ),
        Chart(
            "Right steps and rewards by place", line_chart(shares, x, of_it, ("judged right", "mean reward"))
        ),
    ]


def _auc(steps: ScoredSteps) -> float | None:
    right, wrong = np.sort(steps.rewards[steps.correct]), np.sort(steps.rewards[~steps.correct])
    if not len(right) or not len(wrong):
        return None
    below = np.searchsorted(wrong, right, "left") + np.searchsorted(wrong, right, "right")
    return float(below.sum() / (2 * len(right) * len(wrong)))


def _with_diagonal(spec: Spec, x: str, y: str) -> Spec:
    line: Rows = [{x: 0, y: 0}, {x: 1, y: 1}]
    mark = {"type": "line", "strokeDash": [3, 3], "strokeWidth": 1}
    kind = {"type": "quantitative"}
    place = {"x": {"field": x, **kind}, "y": {"field": y, **kind}, "color": {"value": COLOURS["corpus"]}}
    spec["layer"].append({"data": {"values": line}, "mark": mark, "encoding": place})
    return spec
