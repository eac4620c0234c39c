"""Vega-Lite specifications of the kinds of charts that reports have: lines, bars, intervals, heat maps.

Colours are names of CSS variables, which have a value for light, for dark and for paper; people with any
kind of colour vision can distinguish them (after Okabe and Ito).  The page decides how wide a chart is.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from bisieve.report.page import Spec

Rows: TypeAlias = Sequence[dict[str, Any]]

COLOURS = {
    "kept": "var(--kept)", "dropped": "var(--dropped)", "second": "var(--second)", "third": "var(--third)",
    "fourth": "var(--fourth)", "corpus": "var(--soft)",
}  # fmt: skip
SERIES = ("kept", "second", "third", "fourth", "dropped")  # the colours of series, in order
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")
_HEIGHT = 220
_DATA = {"content": "data"}  # a tooltip with all values of a row
_POINT = {"type": "point", "filled": True, "opacity": 1, "tooltip": _DATA}


def axis(field: str, title: str, kind: str = "quantitative", form: str | None = None, **more: Any) -> Spec:
    """Return the encoding of one axis.

    Args:
        field: Name of the values in each row.
        title: What they are, with the unit.
        kind: "quantitative", "ordinal" or "nominal".
        form: Format of the numbers, of d3, such as ``".0%"``.
        more: Further keys of the encoding; ``axis`` is merged.
    """
    options = {"grid": kind == "quantitative", **({"format": form} if form else {}), **more.pop("axis", {})}
    return {"field": field, "type": kind, "title": title, "axis": options, **more}


def colours(field: str, names: Sequence[str], of: Sequence[str] = SERIES) -> Spec:
    """Return the encoding of series by colour, with a legend above the chart."""
    scale = {"domain": list(names), "range": [COLOURS[name] for name in of[: len(names)]]}
    return {"field": field, "type": "nominal", "title": None, "scale": scale}


def line_chart(
    rows: Rows, x: Spec, y: Spec, series: Sequence[str] = (), band: tuple[str, str] | None = None,
    points: bool = True, of: Sequence[str] = SERIES,
) -> Spec:  # fmt: skip
    """Return lines, one for each of ``series``.

    Args:
        rows: With the fields of ``x`` and ``y``, and ``series`` if there are several.
        x: From `axis`.
        y: From `axis`.
        series: The names of the lines, in the order of their colours.
        band: Fields of the lower and the upper end of an interval around the line.
        points: Whether values are marked, too.
        of: The colours of the series, by name.
    """
    encoding: Spec = {"x": x}
    if series:
        encoding["color"] = colours("series", series, of)
    colour = {} if series else {"color": COLOURS["kept"]}
    layers: list[Spec] = []
    if band:
        ends = {"y": {**y, "field": band[0]}, "y2": {"field": band[1]}}
        layers.append({"mark": {"type": "area", "opacity": 0.18, **colour}, "encoding": ends})
    layers.append({"mark": {"type": "line", "strokeWidth": 2, "clip": True, **colour}, "encoding": {"y": y}})
    if points:
        shape = {"domain": list(series), "range": list(_SHAPES[: len(series)])}
        shapes = {"shape": {"field": "series", "type": "nominal", "title": None, "scale": shape}}
        layers.append({
            "mark": {**_POINT, "size": 45, **colour},
            "encoding": {"y": y, **(shapes if series else {})},
        })  # fmt: skip
    return {"data": {"values": list(rows)}, "height": _HEIGHT, "encoding": encoding, "layer": layers}


def bar_chart(rows: Rows, x: Spec, y: Spec, series: Sequence[str] = (), of: Sequence[str] = SERIES) -> Spec:
    """Return bars; with ``series`` those of a value side by side."""
    encoding: Spec = {"x": x, "y": y}
    mark: Spec = {"type": "bar", "tooltip": True}
    if series:
        across = "yOffset" if y["type"] != "quantitative" else "xOffset"
        encoding |= {
            "color": colours("series", series, of),
            across: {"field": "series", "type": "nominal", "sort": list(series)},
        }
    else:
        mark["color"] = COLOURS["kept"]
    height = _HEIGHT
    if y["type"] != "quantitative":
        height = 17 * max(1, len(series)) * len({row[y["field"]] for row in rows})
    return {"data": {"values": list(rows)}, "height": height, "mark": mark, "encoding": encoding}


def interval_chart(rows: Rows, name: str, x: Spec, low: str, high: str, series: Sequence[str] = ()) -> Spec:
    """Return a point with its interval for each row, one below the other.

    Args:
        rows: With the fields ``name``, that of ``x``, ``low`` and ``high``; ``series`` if there are several.
        name: Field of the names, which are shown in their order.
        x: From `axis`.
        low: Field of the lower end of the interval.
        high: Field of its upper end.
        series: Names of the kinds of points of one row.
    """
    y = {"field": name, "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 220}}
    encoding: Spec = {"y": y}
    if series:
        encoding |= {
            "color": colours("series", series),
            "yOffset": {"field": "series", "type": "nominal", "sort": list(series)},
        }
    single = {} if series else {"color": COLOURS["kept"]}
    return {
        "data": {"values": list(rows)},
        "height": (16 * len(series) if series else 26) * len({row[name] for row in rows}),
        "encoding": encoding,
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2, **single},
                "encoding": {"x": {**x, "field": low}, "x2": {"field": high}},
            },
            {
                "mark": {**_POINT, "size": 60, **single},
                "encoding": {"x": x},
            },
        ],
    }  # fmt: skip


def heat_map(rows: Rows, x: Spec, y: Spec, value: str, title: str, form: str, height: int = 240) -> Spec:
    """Return rectangles that are the stronger the larger their ``value`` in [0, 1] is."""
    strength = {
        "field": value, "type": "quantitative", "title": title,
        "legend": {"format": form, "values": [0.1, 0.5, 1]},
        "scale": {"domain": [0, 1], "range": [0.02, 1], "type": "sqrt"},
    }  # fmt: skip
    return {
        "data": {"values": list(rows)}, "height": height,
        "mark": {"type": "rect", "tooltip": _DATA, "color": COLOURS["kept"]},
        "encoding": {"x": x, "y": y, "opacity": strength},
    }  # fmt: skip
