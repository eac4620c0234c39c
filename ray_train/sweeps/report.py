"""Format a sweep: its table of means with intervals, the answer in sentences, and the plot.

The plot is a specification of Vega-Lite with its data: the metric against the rollouts. It has a line with
its band for each strategy and α, and a band for all the data. Any viewer of Vega-Lite shows it, such as
https://vega.github.io/editor or a notebook.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from bisieve._text import Report, Table, percent, pluralize
from ray_train.sweeps.answer import ENOUGH, LARGE, NONE, UNKNOWN, Answer, Candidate, Cell, Estimate
from ray_train.sweeps.config import RANDOM, SweepConfig

WARNING = "warning"
BY_POSITION = "by position alone"
_COLUMNS = 5  # fractions in one table
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


def mean_interval(values: Sequence[float], confidence: float) -> Estimate:
    """Return the mean of a few runs with the interval of Student's t, whose ends are NaN for one run."""
    mean, runs = float(np.mean(values)), len(values)
    if runs < 2:
        return Estimate(mean, float("nan"), float("nan"))
    reach = float(stdtrit(runs - 1, (1 + confidence) / 2) * np.std(values, ddof=1) / np.sqrt(runs))
    return Estimate(mean, mean - reach, mean + reach)


def report(
    config: SweepConfig, cells: Sequence[Cell], answers: Sequence[Answer], position: float | None = None
) -> Report:
    """Return tables with a row for each line and a column for each fraction, then the answers.

    Args:
        config: Options of the sweep.
        cells: All cells that have a run.
        answers: An answer for each objective.
        position: The metric of the position of a step alone, which gets a row of its own.
    """
    seeds = max(len(cell.values) for cell in cells)
    fractions = sorted({cell.fraction for cell in cells})
    tables: list[str | Table] = []
    for start in range(0, len(fractions), _COLUMNS):
        tables += [_table(config, cells, fractions[start : start + _COLUMNS], seeds, position), ""]
    about = f"mean of {pluralize(seeds, 'seed')} ± half of the {percent(config.confidence)} interval"
    if any(len(cell.values) < seeds for cell in cells):
        about += "; of fewer seeds where a number in parentheses says of how many"
    several = len(answers) > 1
    said = []
    for each in answers:
        said += sentences(each, config, several)
        if each.warning:
            said.append(
                f"{each.objective}: {WARNING}: {each.warning}" if several else f"{WARNING}: {each.warning}"
            )
    return Report(*tables, about, *said)


def _table(
    config: SweepConfig, cells: Sequence[Cell], fractions: Sequence[float], seeds: int, position: float | None
) -> Table:
    several = len({cell.objective for cell in cells}) > 1
    rows: dict[str, dict[float, str]] = {}
    for cell in cells:
        row = rows.setdefault(f"{cell.name}, {cell.objective}" if several else cell.name, {})
        row[cell.fraction] = _mean(cell, config.confidence, seeds)
    if position is not None:
        rows[BY_POSITION] = dict.fromkeys(fractions, f"{position:.3f}")
    sizes = {cell.fraction: cell.rollouts for cell in cells}
    head = (config.metric, *(f"{percent(each)} ({sizes[each]:,})" for each in fractions))
    shown = [(name, *(row.get(each, "") for each in fractions)) for name, row in rows.items()]
    return Table(head, [row for row in shown if any(row[1:])])


def _mean(cell: Cell, confidence: float, seeds: int) -> str:
    found = mean_interval(cell.values, confidence)
    reach = found.high - found.value
    fewer = f" ({len(cell.values)})" if len(cell.values) < seeds else ""
    return f"{found.value:.3f}{fewer}" + ("" if math.isnan(reach) else f" ± {reach:.3f}")


def sentences(answer: Answer, config: SweepConfig, named: bool) -> list[str]:
    """Return the answer for one objective as lines.

    Args:
        answer: The answer.
        config: Options of the sweep.
        named: Whether the objective is named, as there are several.
    """
    prefix = f"{answer.objective}: " if named else ""
    if answer.full is None:
        return [f"{prefix}what all the data would give is unknown: {answer.why}"]
    return [prefix + _all_data(answer, config), prefix + _verdict(answer, config)]


def _all_data(answer: Answer, config: SweepConfig) -> str:
    assert answer.full is not None
    names = ", ".join(map(percent, answer.through))
    by = f"a curve through {RANDOM} at {names}"
    if not answer.measured:
        return f"all the data: {_estimate(answer.full)} expected, by {by}{_late_rise(answer)}"
    line = f"all the data: {_estimate(answer.full)} measured"
    return line if answer.by_curve is None else f"{line}; {by} says {_estimate(answer.by_curve)}"


def _late_rise(answer: Answer) -> str:
    """Return what has to be said if the runs do not exclude a late rise; its effect is in the interval."""
    assert answer.curve is not None
    late = answer.curve.take_off
    if late.is_excluded:
        return ""
    return (
        f"; a rise that takes off at {percent(answer.through[-1])} is not excluded, as only "
        f"{percent(round(late.noticed, 2))} of such sweeps would notice it: more seeds or fractions, or "
        "100%, would tell"
    )


def _verdict(answer: Answer, config: SweepConfig) -> str:
    if answer.verdict == UNKNOWN:
        return f"what is enough is unknown: {answer.why}"
    within, sure = f"within {config.delta:g} of all the data", f"with {percent(config.confidence)} confidence"
    if answer.verdict == NONE:
        assert answer.best is not None
        assert answer.least is not None
        return (
            f"no fraction below {percent(LARGE)} is enough here, {sure}: all that were tried are at least "
            f"{answer.least:.3f} below all the data; the best, {_candidate(answer.best)}"
        )
    assert answer.chosen is not None
    worst = f"{_candidate(answer.chosen)}, at worst {_below(answer.chosen.most)}"
    if answer.verdict == ENOUGH:
        same = f"; equivalent: nor is it better by {config.delta:g}" if answer.chosen.is_equivalent else ""
        return f"enough, {within} {sure}: {worst}{same}"
    more = "more seeds or larger fractions would tell"
    if answer.chosen.shortfall <= config.delta:
        return f"undecided: {worst}; it is {within}, but not {sure}: {more}"
    return (
        f"undecided: the best, {worst} and at best {_below(answer.chosen.least)}; neither is shown {sure}, "
        f"that one is {within} or that none is: {more}"
    )


def _candidate(found: Candidate) -> str:
    cell = found.cell
    return (
        f"{cell.name} at {percent(cell.fraction)} ({cell.rollouts:,} rollouts) has {cell.mean:.3f}, "
        f"{_below(found.shortfall)} all the data"
    )


def _below(shortfall: float) -> str:
    return f"{abs(shortfall):.3f} {'below' if shortfall >= 0 else 'above'}"


def _estimate(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f}…{found.high:.3f})"


def plot(config: SweepConfig, cells: Sequence[Cell], answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the specification of the plot, with a panel for each objective."""
    confidence = percent(config.confidence)
    points = [_point(cell, config.confidence) for cell in cells]
    whole = [
        {"objective": each.objective, **each.full.numbers()} for each in answers if each.full is not None
    ]
    x = {
        "field": "rollouts", "type": "quantitative", "title": "rollouts trained on",
        "scale": {"type": "log"},
    }  # fmt: skip
    y = {"type": "quantitative", "title": config.metric, "scale": {"zero": False}}
    colour = {"field": "selection", "type": "nominal"}
    lines: dict[str, Any] = {
        "data": {"values": points},
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.15},
                "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}, "color": colour},
            },
            {
                "mark": {"type": "line", "point": True, "tooltip": True},
                "encoding": {"x": x, "y": {"field": "mean", **y}, "color": colour},
            },
        ],
    }
    band: dict[str, Any] = {
        "data": {"values": whole},
        "layer": [
            {
                "mark": {"type": "rect", "opacity": 0.1, "color": "gray"},
                "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "rule", "strokeDash": [4, 4], "color": "gray"},
                "encoding": {"y": {"field": "value", **y}},
            },
        ],
    }
    layers = [*([band] if whole else []), lines]
    measured = "measured" if any(each.measured for each in answers) else "by a curve"
    found: dict[str, Any] = {
        "$schema": _SCHEMA,
        "title": {
            "text": f"{config.metric} by selection and size",
            "subtitle": f"means and {confidence} intervals over seeds; gray: all the data, {measured}",
        },
    }
    objectives = list(dict.fromkeys(cell.objective for cell in cells))
    if len(objectives) == 1:
        return {**found, "width": 560, "height": 360, "layer": layers}
    panels = [
        {
            "title": objective, "width": 320, "height": 260,
            "layer": [_only(layer, objective) for layer in layers],
        }
        for objective in objectives
    ]  # fmt: skip
    return {**found, "hconcat": panels}


def _only(layer: dict[str, Any], objective: str) -> dict[str, Any]:
    """Return a layer with the values of one objective."""
    values = [each for each in layer["data"]["values"] if each["objective"] == objective]
    return {**layer, "data": {"values": values}}


def _point(cell: Cell, confidence: float) -> dict[str, Any]:
    found = mean_interval(cell.values, confidence)
    is_known = not math.isnan(found.low)
    return {
        "selection": cell.name, "objective": cell.objective, "fraction": cell.fraction,
        "rollouts": cell.rollouts, "runs": len(cell.values), "mean": found.value,
        "low": found.low if is_known else found.value, "high": found.high if is_known else found.value,
    }  # fmt: skip
