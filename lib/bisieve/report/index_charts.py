"""The charts of an index: Vega-Lite specifications from the counts of a corpus and of a selection."""

import math
from collections.abc import Sequence

import numpy as np

from bisieve._text import percent
from bisieve.index.statistics import FIFTHS, Statistics
from bisieve.report.aggregates import (
    KEPT,
    MC_BINS,
    MOST_OF_A_QUESTION,
    MOST_STEPS,
    PARTS_BINS,
    SCORE_BINS,
    Counts,
)
from bisieve.report.charts import (
    Rows,
    axis,
    bar_chart,
    colours,
    heat_map,
    line_chart,
)
from bisieve.report.page import Chart, Spec
from bisieve.report.what_if import WhatIf

SIDES = ("corpus", "selection")
SIDE_COLOURS = ("corpus", "kept")
_BARS = 30  # sources at most in a chart with a bar for each
_ALL = "all sources"
_SHARE_COLOURS = ["#e69f00", "#8d95a1", "#0072b2"]  # a mean of colours has no CSS variable
_MC_LABELS = ["0", *(f"{n / 10:.1f}–{(n + 1) / 10:.1f}" for n in range(MC_BINS - 2)), "1"]


def sources_chart(counts: Counts) -> list[Chart]:
    """Return the share of each source in the corpus and in the selection; [] for one or very many sources."""
    if not 1 < len(counts.names) <= _BARS:
        return []
    totals = counts.total("rollouts")
    sides = counts.by_source["rollouts"].sum(axis=0), counts.by_source["rollouts"][KEPT]
    rows = [
        {"source": name, "series": side, "share": values[number] / max(total, 1), "rollouts": values[number]}
        for side, values, total in zip(SIDES, sides, totals, strict=True)
        for number, name in enumerate(counts.names)
    ]
    across = axis("share", "share of the rollouts", form=".0%", axis={"tickCount": 8})
    names = axis("source", "", "nominal", sort=None, axis={"labelLimit": 180})
    return [Chart("Where rollouts come from", bar_chart(rows, across, names, SIDES, SIDE_COLOURS))]


def score_chart(counts: Counts, has_alpha: bool) -> Chart:
    """Return the histogram of the BIS: all rollouts and those that are kept, with the cutoff and the ties."""
    own = counts.charted if len(counts.names) > 1 else ()
    chosen: dict[str, int | slice] = {_ALL: slice(None)}
    chosen |= {name: number for number, name in enumerate(own)}
    edges, rows, lines, note = np.linspace(0, counts.most, SCORE_BINS + 1), [], [], ""
    for name, number in chosen.items():
        of_it = counts.bis[:, number].reshape(2, -1, SCORE_BINS).sum(axis=1)
        for series, values in (("all rollouts", of_it.sum(axis=0)), ("kept", of_it[KEPT])):
            rows += [
                {
                    "source": name,
                    "series": series,
                    "from": edges[n],
                    "to": edges[n + 1],
                    "rollouts": values[n],
                }
                for n in np.flatnonzero(values)
            ]
        lowest = counts.cutoffs(None if name == _ALL else name)
        ends = lowest[[0, -1]] if len(lowest) > 1 else lowest
        words = ("lowest cutoff", "highest cutoff") if len(lowest) > 1 else ("cutoff",)[: len(lowest)]
        if has_alpha:
            lines += [
                {"source": name, "at": end, "label": f"{word} {end:.4f}", "row": row}
                for row, (end, word) in enumerate(zip(ends, words, strict=True))
            ]
    kept_ties = int(counts.at_alpha[KEPT])
    if has_alpha and counts.at_alpha.sum():
        share = kept_ties / max(counts.total("rollouts")[1], 1)
        text = f"ties at α: {share:.1%} of all kept"  # short: a phone has room for some 35 characters
        lines.append({"source": _ALL, "at": counts.alpha, "label": text, "row": 2})
        note = f"{counts.at_alpha.sum():,} rollouts have a BIS of exactly α; {kept_ties:,} of them are kept."
    return Chart(
        "BIS: all rollouts, and those that are kept",
        _histogram(rows, lines, list(chosen), counts.most),
        note,
    )


def _histogram(rows: Rows, lines: Rows, names: Sequence[str], largest: float) -> Spec:
    most = max((row["rollouts"] for row in rows), default=1)
    ticks = [0, *(10**n for n in range(int(np.log10(max(most, 1))) + 1))]
    y = axis("rollouts", "rollouts (logarithmic)", form=",.0f", stack=None, scale={"type": "symlog"})
    y["axis"]["values"] = ticks
    whole = {"nice": False, "domain": [0, largest]}
    x = axis("from", "BIS", form=".2f", scale=whole, bin="binned", axis={"tickCount": 7})
    ours = {"filter": "datum.source === source"}
    at = {"x": {"field": "at", "type": "quantitative"}}
    is_right = f"datum.at > {largest / 2}"  # where a label has more room on the left of its line
    select = {"input": "select", "options": list(names), "name": "source "}
    chosen = {"name": "source", "value": _ALL, **({"bind": select} if len(names) > 1 else {})}
    return {
        "height": 260,
        "params": [chosen],
        "layer": [
            {
                "data": {"values": list(rows)},
                "transform": [ours],
                "mark": {"type": "bar", "tooltip": True, "binSpacing": 0.5},
                "encoding": {
                    "x": x, "x2": {"field": "to"}, "y": y, "y2": {"datum": 0},
                    "color": colours("series", ("all rollouts", "kept"), ("dropped", "kept")),
                },
            },
            {
                "data": {"values": list(lines)},
                "transform": [ours],
                "mark": {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.5, "color": "var(--ink)"},
                "encoding": at,
            },
            {
                "data": {"values": list(lines)},
                "transform": [ours],
                "mark": {
                    "type": "text", "align": {"expr": f"{is_right} ? 'right' : 'left'"}, "baseline": "top",
                    "dx": {"expr": f"{is_right} ? -9 : 9"}, "fontSize": 11,
                    "color": "var(--ink)", "y": {"expr": "2 + 15 * datum.row"},
                },
                "encoding": {**at, "text": {"field": "label"}},
            },
        ],
    }  # fmt: skip


def parts_chart(counts: Counts, has_alpha: bool) -> Chart:
    """Return mixture × reliability, coloured by the share that is kept, with the lines of equal BIS."""
    mixture, reliability = np.linspace(0, 0.25, PARTS_BINS + 1), np.linspace(0, 1, PARTS_BINS + 1)
    total, kept = counts.parts.sum(axis=0), counts.parts[KEPT]
    most = max(10, int(total.max()))
    rows = [
        {
            "m0": mixture[m], "m1": mixture[m + 1], "r0": reliability[r], "r1": reliability[r + 1],
            "rollouts": total[m, r], "kept": kept[m, r], "share kept": kept[m, r] / total[m, r],
        }
        for m, r in np.argwhere(total).tolist()
    ]  # fmt: skip
    ends = counts.cutoffs()
    at = np.linspace(0, 0.25, 60)
    lines = [
        {"cutoff": f"BIS {end:.4f}", "mixture": m, "reliability": end / (m + counts.alpha)}
        for end in (sorted({ends[0], ends[-1]}) if has_alpha and len(ends) else ())
        for m in at
        if 0 < end <= m + counts.alpha
    ]
    x = axis(
        "m0", "mixture p(1−p)", form=".2f", scale={"domain": [0, 0.25], "nice": False}, axis={"tickCount": 6}
    )
    y = axis("r0", "reliability R", form=".1f", scale={"domain": [0, 1]})
    spec: Spec = {
        "height": 320,
        "layer": [
            {
                "data": {"values": rows},
                "mark": {"type": "rect", "tooltip": {"content": "data"}},
                "encoding": {
                    "x": x, "x2": {"field": "m1"}, "y": y, "y2": {"field": "r1"},
                    "color": {
                        "field": "share kept", "type": "quantitative", "title": "share kept",
                        "scale": {"domain": [0, 0.5, 1], "range": _SHARE_COLOURS, "interpolate": "rgb"},
                        "legend": {"format": ".0%", "gradientLength": 120, "titleOrient": "left"},
                    },
                    "opacity": {
                        "field": "rollouts", "type": "quantitative", "legend": None,
                        "scale": {"type": "log", "domain": [1, most], "range": [0.45, 1]},
                    },
                },
            },
            {
                "data": {"values": lines},
                "mark": {"type": "line", "color": "var(--ink)", "strokeDash": [5, 3], "clip": True},
                "encoding": {
                    "x": {"field": "mixture", "type": "quantitative"},
                    "y": {"field": "reliability", "type": "quantitative"},
                    "detail": {"field": "cutoff"},
                },
            },
        ],
    }  # fmt: skip
    one = "dashed: where the BIS is that of the cutoff"
    several = f"{one} of the source with the lowest and of that with the highest one"
    line = "" if not lines else f"; {one if lines[0]['cutoff'] == lines[-1]['cutoff'] else several}"
    return Chart("Mixture × reliability", spec, f"Fainter cells have fewer rollouts{line}.")


def mc_charts(counts: Counts) -> list[Chart]:
    """Return the MC scores of steps by their place, of the corpus and of the selection."""
    charts = []
    for side, of_it in zip(SIDES, (counts.mc.sum(axis=0), counts.mc[KEPT]), strict=True):
        steps = of_it.sum(axis=1)
        rows = [
            {
                "step": _place(place), "MC score": _MC_LABELS[score], "steps": of_it[place, score],
                "share": of_it[place, score] / steps[place],
            }
            for place in np.flatnonzero(steps).tolist()
            for score in range(MC_BINS)
        ]  # fmt: skip
        x = axis("step", "step", "ordinal", sort=None, axis={"labelAngle": 0})
        y = axis("MC score", "MC score", "ordinal", sort=_MC_LABELS[::-1])
        spec = heat_map(rows, x, y, "share", "share of the steps at this place", ".0%")
        charts.append(Chart(f"MC scores by step: {side}", spec))
    return charts


def negatives_charts(counts: Counts, found: tuple[Statistics, Statistics]) -> list[Chart]:
    """Return the share of negative steps by fifth of the rollout, and by step."""
    fifths = [
        {"fifth": str(number + 1), "series": side, "share": share}
        for side, its in zip(SIDES, found, strict=True)
        for number, share in enumerate(its.negative_by_fifth)
        if not math.isnan(share)
    ]
    places = [
        {"step": _place(place), "series": side, "share": negative / steps, "steps": steps}
        for side, of_it in zip(SIDES, (counts.negatives.sum(axis=0), counts.negatives[KEPT]), strict=True)
        for place, (negative, positive) in enumerate(of_it.tolist())
        if (steps := negative + positive)
    ]  # fmt: skip
    y = axis("share", "negative steps", form=".0%", scale={"zero": True})
    charts = []
    by_fifth = axis("fifth", f"fifth of the rollout (of {FIFTHS})", "ordinal", axis={"labelAngle": 0})
    by_step = axis("step", "step", "ordinal", sort=None, axis={"labelAngle": 0})
    for title, rows, x in (("by fifth of the rollout", fifths, by_fifth), ("by step", places, by_step)):
        spec = line_chart(rows, x, y, SIDES, of=SIDE_COLOURS)
        charts.append(Chart(f"Negative steps {title}", spec))
    return charts


def questions_chart(counts: Counts) -> Chart:
    """Return how many questions have 1, 2, … rollouts, in the corpus and in the selection."""
    most = MOST_OF_A_QUESTION
    rows = [
        {"rollouts": str(n + 1) if n < most else f"{most + 1}+", "series": side, "questions": questions}
        for side, tally in zip(SIDES, (counts.corpus, counts.kept), strict=True)
        for n, questions in enumerate(counts.questions(tally))
        if questions
    ]
    order = [*map(str, range(1, most + 1)), f"{most + 1}+"]
    x = axis("rollouts", "rollouts of a question", "ordinal", sort=order, axis={"labelAngle": 0})
    y = axis("questions", "questions", form=",.0f", axis={"tickMinStep": 1})
    return Chart("Questions by their number of rollouts", bar_chart(rows, x, y, SIDES, SIDE_COLOURS))


def what_if_chart(found: WhatIf, alpha: float, fraction: float) -> Chart:
    """Return what each fraction keeps, for an α that can be chosen."""
    names = ("questions covered", "mixed rollouts", "negative steps", "AUC of position → label")
    rows = []
    for of_alpha, statistics in zip(found.alphas, found.found, strict=True):
        for share, its in zip(found.fractions, statistics, strict=True):
            values: Sequence[float] = (
                its.questions / max(found.questions, 1), its.mixed / max(its.rollouts, 1),
                its.negative_share, its.shortcut,
            )  # fmt: skip
            rows += [
                {"alpha": f"{of_alpha:g}", "fraction": share, "series": name, "value": value}
                for name, value in zip(names, values, strict=True)
                if not math.isnan(value)
            ]
    x = axis("fraction", "fraction that is kept", form=".0%", scale={"type": "sqrt", "domain": [0, 1]})
    x["axis"]["values"] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1]
    spec = line_chart(rows, x, axis("value", "share, or AUC", form=".1f", scale={"domain": [0, 1]}), names)
    chosen: Spec = {"name": "alpha", "value": f"{alpha:g}"}
    if len(found.alphas) > 1:
        chosen["bind"] = {"input": "select", "options": [f"{each:g}" for each in found.alphas], "name": "α "}
    spec["params"] = [chosen]
    spec["transform"] = [{"filter": "datum.alpha === alpha"}]
    spec["layer"].append({
        "data": {"values": [{"at": fraction, "label": f"now: {percent(fraction)}"}]},
        "mark": {"type": "rule", "strokeDash": [4, 3]},
        "encoding": {"x": {"field": "at", "type": "quantitative"}, "color": {"value": "var(--ink)"}},
    })  # fmt: skip
    return Chart("What other fractions keep", spec)


def _place(place: int) -> str:
    return str(place + 1) if place < MOST_STEPS else f"{MOST_STEPS + 1}+"
