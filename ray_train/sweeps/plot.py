"""The plot of a sweep, as a specification of Vega-Lite with its data: the metric against the rollouts.

It has a line with its band for each strategy and α, and a band for all the data. Any viewer of Vega-Lite
shows it, such as https://vega.github.io/editor or a notebook.
"""

from collections.abc import Sequence
from typing import Any

from bisieve._text import percent
from ray_train.sweeps.answer import Answer, Cell
from ray_train.sweeps.config import SweepConfig
from ray_train.sweeps.report import mean_interval

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


def plot(config: SweepConfig, cells: Sequence[Cell], answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the specification; of several objectives each has a facet of its own."""
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
        "$schema": SCHEMA,
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
    is_known = found.low == found.low
    return {
        "selection": cell.name, "objective": cell.objective, "fraction": cell.fraction,
        "rollouts": cell.rollouts, "runs": len(cell.values), "mean": found.value,
        "low": found.low if is_known else found.value, "high": found.high if is_known else found.value,
    }  # fmt: skip
