"""The page of a sweep: ``bisieve report --sweep DIR --html FILE``.

sweep.json ──▶ the answer, the metric against the rollouts with a band for all the data, and every mean
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from bisieve._text import percent
from bisieve.errors import TrainingError
from bisieve.io import storage
from bisieve.io.urls import canonical, join
from bisieve.report.charts import COLOURS, SERIES, Rows, axis, line_chart
from bisieve.report.page import (
    Chart,
    Charts,
    Column,
    Finding,
    Findings,
    Mood,
    Page,
    Section,
    Table,
    Tile,
    Tiles,
)
from ray_train.sweeps.answer import ENOUGH, UNDECIDED, Cell
from ray_train.sweeps.config import RANDOM
from ray_train.sweeps.report import BY_POSITION, WARNING, mean_interval
from ray_train.sweeps.results import ANSWER

_MOODS: dict[str, Mood] = {ENOUGH: "good", UNDECIDED: "note"}  # of verdicts; the others are warnings
_BESIDE = len(SERIES) - 1  # lines in one chart beside that of random selections


class _Estimate(msgspec.Struct):
    value: float
    low: float
    high: float


class _Answer(msgspec.Struct):
    objective: str
    verdict: str
    sentences: list[str]
    all_data: _Estimate | None
    all_data_measured: bool
    chosen: dict[str, Any] | None
    warning: str


class _Cell(msgspec.Struct):
    strategy: str
    alpha: str
    objective: str
    fraction: float
    rollouts: int
    values: tuple[float, ...]


class _Sweep(msgspec.Struct):
    config: dict[str, Any]
    trials: int
    finished: int
    metric: str
    by_position_alone: float | None
    cells: list[_Cell]
    answers: list[_Answer]


def page(url: str) -> Page:
    """Return the page of a sweep.

    Args:
        url: The output of ``bisieve sweep``, or its sweep.json.

    Raises:
        TrainingError: The file is not one of this version of ``bisieve sweep``.
        StorageError: The file cannot be read.
    """
    folder = canonical(url).removesuffix(f"/{ANSWER}")
    storage.require(join(folder, ANSWER), f"a sweep ({ANSWER})", "make one with bisieve sweep")
    data = storage.read_bytes(join(folder, ANSWER))
    try:
        sweep = msgspec.json.decode(data, type=_Sweep)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        again = "run bisieve sweep again with this version: it repeats no trial"
        raise TrainingError(f"{ANSWER} of bisieve sweep at {folder}", str(error), again) from error
    confidence = float(sweep.config["confidence"])
    cells = [
        Cell(each.strategy, each.alpha, each.objective, each.fraction, each.rollouts, each.values)
        for each in sweep.cells
    ]
    several = len(sweep.answers) > 1
    charts = [
        chart
        for answer in sweep.answers
        for chart in _charts(
            answer, [cell for cell in cells if cell.objective == answer.objective], sweep.metric, confidence,
            several,
        )
    ]  # fmt: skip
    sections = [
        Section("Answer", [Findings([*_findings(sweep.answers, several)]), Tiles([*_tiles(sweep, several)])]),
        Section(f"{sweep.metric} by selection and size", [Charts(charts)], _intro(confidence)),
        Section("All means", [_table(cells, confidence, several, sweep.by_position_alone)]),
    ]
    subtitle = (
        f"{sweep.config['backbone']} on {sweep.config['index']}, {sweep.finished} of {sweep.trials} trials"
    )
    return Page("Sweep report", subtitle, sections, _document(data, cells, confidence))


def _document(data: bytes, cells: Sequence[Cell], confidence: float) -> dict[str, Any]:
    """Return all numbers of the page: those of sweep.json, and the mean of each cell with its interval."""
    document: dict[str, Any] = msgspec.json.decode(data)
    for found, cell in zip(document["cells"], cells, strict=True):
        estimate = mean_interval(cell.values, confidence)
        found |= {"mean": estimate.value, "low": estimate.low, "high": estimate.high}
    return document


def _intro(confidence: float) -> str:
    return (
        f"Means over seeds with their {percent(confidence)} intervals. The gray band is what all the data "
        "give: measured, or expected by a curve through the random selections."
    )


def _findings(answers: Sequence[_Answer], several: bool) -> Iterator[Finding]:
    for answer in answers:
        for sentence in answer.sentences:
            title, _, text = sentence.partition(": ")
            title = f"{answer.objective}, {title}" if several else title[:1].upper() + title[1:]
            mood = "warning" if answer.warning else _MOODS.get(answer.verdict, "warning")
            yield Finding(mood, f"{title}:", f"{text}.")
        if answer.warning:
            title = f"{answer.objective}, {WARNING}" if several else WARNING.capitalize()
            yield Finding("warning", f"{title}:", f"{answer.warning}.")


def _tiles(sweep: _Sweep, several: bool) -> Iterator[Tile]:
    for answer in sweep.answers:
        of = f", {answer.objective}" if several else ""
        if answer.all_data is not None:
            ends = f"{answer.all_data.low:.3f}–{answer.all_data.high:.3f}"
            how = "measured" if answer.all_data_measured else "expected"
            yield Tile(
                f"{sweep.metric} of all the data{of}", f"{answer.all_data.value:.3f}", note=f"{how}, {ends}"
            )
        if answer.chosen is not None:
            name = f"{answer.chosen['strategy']} α {answer.chosen['alpha']}".removesuffix(" α ")
            yield Tile(
                f"{answer.verdict}{of}", percent(answer.chosen["fraction"]),
                note=f"{name}: {answer.chosen['mean']:.3f}",
            )  # fmt: skip


def _charts(
    answer: _Answer, cells: Sequence[Cell], metric: str, confidence: float, several: bool
) -> Iterator[Chart]:
    """Yield charts of at most `len(SERIES)` lines, that of random selections in each."""
    names = list(dict.fromkeys(cell.name for cell in cells if cell.fraction < 1))
    others = [name for name in names if name != RANDOM]
    reference = [RANDOM] if RANDOM in names else []
    for first in range(0, len(others) or len(reference), _BESIDE):
        shown = others[first : first + _BESIDE]
        lines = [*reference, *shown]
        rows = [_point(cell, confidence) for cell in cells if cell.name in lines]
        x = axis("rollouts", "rollouts trained on", form=",.0f", scale={"type": "log", "nice": False})
        spec = line_chart(
            rows, x, axis("mean", metric, form=".3f", scale={"zero": False}), lines, ("low", "high")
        )
        if answer.all_data is not None:
            _add_band(spec, answer.all_data)
        title = ", ".join(shown or reference)
        yield Chart(f"{title} ({answer.objective})" if several else title, spec)


def _point(cell: Cell, confidence: float) -> dict[str, Any]:
    found = mean_interval(cell.values, confidence)
    is_known = not math.isnan(found.low)
    return {
        "series": cell.name, "fraction": percent(cell.fraction), "rollouts": cell.rollouts,
        "runs": len(cell.values), "mean": found.value,
        "low": found.low if is_known else found.value, "high": found.high if is_known else found.value,
    }  # fmt: skip


def _add_band(spec: dict[str, Any], whole: _Estimate) -> None:
    """Draw what all the data give behind the lines, over the whole width."""
    rows: Rows = [{"value": whole.value, "low": whole.low, "high": whole.high}]
    y, colour = {"type": "quantitative"}, {"color": {"value": COLOURS["corpus"]}}
    across = {"x": {"value": 0}, "x2": {"value": "width"}, **colour}
    spec["layer"][:0] = [
        {
            "data": {"values": rows}, "mark": {"type": "rect", "opacity": 0.15},
            "encoding": {**across, "y": {"field": "low", **y}, "y2": {"field": "high"}},
        },
        {
            "data": {"values": rows}, "mark": {"type": "rule", "strokeDash": [4, 4]},
            "encoding": {**across, "y": {"field": "value", **y}},
        },
    ]  # fmt: skip


def _table(cells: Sequence[Cell], confidence: float, several: bool, position: float | None) -> Table:
    columns = [
        Column("selection"), *([Column("objective")] if several else []), Column("fraction", "percent"),
        Column("rollouts", "count"), Column("runs", "count"), Column("mean", "number"),
        Column(f"{percent(confidence)} interval", "figure"),
    ]  # fmt: skip
    rows: list[Sequence[str | int | float | None]] = []
    for cell in cells:
        found = mean_interval(cell.values, confidence)
        interval = "unknown" if math.isnan(found.low) else f"{found.low:.3f}–{found.high:.3f}"
        rows.append([
            cell.name, *([cell.objective] if several else []), cell.fraction, cell.rollouts,
            len(cell.values), found.value, interval,
        ])  # fmt: skip
    if position is not None:
        others = [None] * (len(columns) - 3)
        rows.append([BY_POSITION, *others, position, None])
    return Table(columns, rows)
