"""The page of a training run: ``bisieve report --run OUTPUT --html FILE``.

run.json, bisieve.json, event files ──`read_run`──▶ RunReport ──`run_page`──▶ Page
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from bisieve._text import percent
from bisieve.io import storage
from bisieve.io.urls import canonical, join
from bisieve.records.options import EXCLUDE, RANKING
from bisieve.report.charts import COLOURS, axis, line_chart
from bisieve.report.page import (
    Block,
    Chart,
    Charts,
    Column,
    Finding,
    Findings,
    Note,
    Page,
    Section,
    Spec,
    Table,
    Tile,
    Tiles,
)
from ray_train.model.metadata import CARD
from ray_train.registry.files import RUN
from ray_train.registry.lineage import read_json
from ray_train.report.events import Curves, read_curves

_POINTS = 600  # of a curve on the page, each the mean of equally many steps
_WAITING, _PADDING = 0.1, 0.3  # shares from which on they are worth attention
_HELP = "; more --data-workers, or a faster image store, may help"
_CURVES = (  # metric, title, unit on the axis, format
    ("loss", "Loss", "mean loss of the steps", ".3f"),
    ("validation_loss", "Validation loss", "on held-out prompts", ".3f"),
    ("validation_f1", "Validation macro-F1", "on held-out prompts", ".2f"),
    ("learning_rate", "Learning rate", "learning rate", ".1e"),
    ("gradient_norm", "Gradient norm", "before clipping (logarithmic)", "~g"),
    ("rollouts_per_second", "Speed", "rollouts per second", ",.3~r"),
    ("tokens_per_second", "Tokens", "tokens per second", ",.0f"),
    ("data_wait_share", "Waiting for data", "share of a step's time", ".0%"),
    ("padding_share", "Padding", "share of all tokens", ".0%"),
    ("memory_gb", "Memory", "peak [GB]", "~g"),
    ("mfu", "Model FLOPs utilisation", "share of the peak", ".0%"),
)


@dataclass(frozen=True)
class RunReport:
    """What a run has left behind."""

    output: str
    run: Mapping[str, Any]  # run.json
    card: Mapping[str, Any] | None  # bisieve.json; None: the run is not finished
    curves: Curves

    @property
    def total_steps(self) -> int:
        """Return the number of steps that are done."""
        return max(self.curves.seconds, default=0)

    @property
    def restarts(self) -> int:
        """Return how often the run was resumed."""
        return max(0, len(self.curves.starts) - 1)

    @property
    def hours(self) -> float:
        """Return the time from the first start to the last step, pauses included; NaN if unknown."""
        if not self.curves.seconds:
            return math.nan
        return (max(self.curves.seconds.values()) - self.curves.starts[0].seconds) / 3600

    def last(self, metric: str) -> float:
        """Return the last value of a metric; NaN without any."""
        values = self.curves.values.get(metric, {})
        return values[max(values)] if values else math.nan

    def mean(self, metric: str) -> float:
        """Return the mean of a metric over all steps; NaN without any."""
        values = self.curves.values.get(metric, {})
        return fmean(values.values()) if values else math.nan

    def trained_on(self) -> dict[str, Any]:
        """Return what the run was trained on, by name; None where it is not known, or not yet."""
        card, identity = self.card or {}, self.run.get("identity") or {}
        return {
            "index": self.run.get("index"),
            "version": str(identity.get("index", ""))[:16],
            "selection": str(identity.get("selection", ""))[:16],
            "backbone": self.run.get("backbone"),
            "fraction_asked": card.get("fraction_asked", identity.get("fraction")),
            "fraction_delivered": card.get("fraction_delivered"),
            "rollouts": card.get("rollouts"),
            "held_out": card.get("held_out"),
            "left_out_missing_images": card.get("left_out_missing_images"),
            "broken_images": len(card.get("broken_images", {})) if card else None,
        }

    def numbers(self) -> dict[str, Any]:
        """Return everything as a document; curves are thinned as on the page."""
        return {
            "output": self.output,
            "run": self.run.get("run"),
            "finished": self.card is not None,
            "steps": self.total_steps,
            "restarts": [asdict(start) for start in self.curves.starts[1:]],
            "hours": self.hours,
            "trained_on": self.trained_on(),
            "identity": self.run.get("identity"),
            "metrics": (self.card or {}).get("metrics"),
            "last": {name: self.last(name) for name in self.curves.values},
            "mean": {name: self.mean(name) for name in self.curves.values},
            "curves": {name: thinned(values) for name, values in self.curves.values.items()},
        }


def page(output: str) -> Page:
    """Return the page of the run at ``output``.

    Raises:
        TrainingError: There is no run, or a file of it is damaged.
        StorageError: A file cannot be read.
    """
    return run_page(read_run(output))


def read_run(output: str) -> RunReport:
    """Read what the run at ``output`` has left behind so far.

    Raises:
        TrainingError: There is no run, or a file of it is damaged.
        StorageError: A file cannot be read.
    """
    url = canonical(output)
    storage.require(join(url, RUN), f"the output of bisieve train ({RUN})", "give its --output")
    run = read_json(join(url, RUN))
    card = read_json(join(url, CARD)) if storage.exists(join(url, CARD)) else None
    if card is not None and card.get("run") != run.get("run"):
        card = None  # of an earlier run, which --restart replaces
    return RunReport(output, run, card, read_curves(url, str(run.get("run"))))


def run_page(report: RunReport) -> Page:
    """Return the page of a run."""
    state = "finished" if report.card else "not finished"
    subtitle = f"run {report.run.get('run')}, {state}; {report.output}"
    sections = [
        Section("Verdict", [Findings(_findings(report)), _tiles(report)]),
        *_curve_sections(report),
        Section("What it was trained on", _selection(report)),
        Section("Options", [_options(report)], "All that decides what the run learns."),
    ]
    return Page("Training report", subtitle, sections, report.numbers())


def _findings(report: RunReport) -> list[Finding]:
    found = []
    if report.card is None:
        found.append(
            Finding("note", "Not finished.", "The same command as before goes on from its last checkpoint.")
        )
    if not report.curves.seconds:
        text = "There are no event files of this run, as with --track none: no curves."
        return [*found, Finding("warning", "No curves.", text)]
    if report.restarts:
        steps = ", ".join(f"step {start.step:,}" for start in report.curves.starts[1:])
        times = "once" if report.restarts == 1 else f"{report.restarts} times"
        found.append(Finding("note", f"Resumed {times},", f"after {steps}."))
    for metric, limit, title, of, more in (
        ("data_wait_share", _WAITING, "Waiting for data:", "of a step's time", _HELP),
        ("padding_share", _PADDING, "Padding:", "of all tokens that go through the model", ""),
    ):
        if not math.isnan(share := report.mean(metric)):
            is_much = share > limit
            text = f"{share:.1%} {of} on average{more if is_much else ''}."
            found.append(Finding("warning" if is_much else "good", title, text))
    return found


def _tiles(report: RunReport) -> Tiles:
    metrics = (report.card or {}).get("metrics") or {}
    mean = metrics.get("mean_loss")  # as it was published; a run that is not finished has none
    shown = (
        ("steps", f"{report.total_steps:,}"),
        ("loss, last", _number(report.last("loss"))),
        ("loss, mean", _number(report.mean("loss") if mean is None else mean)),
        ("validation loss, last", _number(report.last("validation_loss"))),
        ("validation macro-F1, last", _number(report.last("validation_f1"))),
        ("rollouts per second", _number(report.mean("rollouts_per_second"))),
        ("hours, pauses included", _number(report.hours)),
        ("restarts", str(report.restarts)),
    )
    return Tiles([Tile(label, value) for label, value in shown if value])


def _curve_sections(report: RunReport) -> list[Section]:
    charts = [
        Chart(title, _curve(report, metric, unit, form), _note(report, metric))
        for metric, title, unit, form in _CURVES
        if report.curves.values.get(metric)
    ]
    if not charts:
        return []
    text = f"Curves of more than {_POINTS} steps are means of equally many, in a band from lowest to highest."
    dashed = Note("A dashed line is a restart.", is_small=True)
    blocks: list[Block] = [Charts(charts), *([dashed] if report.restarts else [])]
    return [Section("Curves", blocks, text)]


def _note(report: RunReport, metric: str) -> str:
    """Return a sentence on how a run validates, for a metric of its validation; "" for others."""
    card = report.card or {}
    every = (card.get("config") or {}).get("validate_every")
    if not metric.startswith("validation") or every is None:
        return ""
    return f"On {card.get('held_out') or 0:,} held-out rollouts, every {every:,} steps and at the end."


def _curve(report: RunReport, metric: str, unit: str, form: str) -> Spec:
    rows = thinned(report.curves.values[metric])
    is_log = metric == "gradient_norm" and all(row["low"] > 0 for row in rows)
    scale: Spec = {"type": "log"} if is_log else {"zero": metric.endswith("share")}
    x = axis("step", "step", form=",.0f", scale={"nice": False}, axis={"tickMinStep": 1, "tickCount": 8})
    y = axis("value", unit, form=form, scale=scale, axis={"tickCount": 5})
    has_points = metric.startswith("validation")
    ends = [report.curves.values.get(f"{metric}_{end}", {}) for end in ("low", "high")]
    if all(ends):  # the interval of a validation, which is never thinned
        rows = [
            row | {"low": ends[0][step], "high": ends[1][step]}
            for row in rows
            if (step := int(row["step"])) in ends[0]
        ]
    has_band = not has_points or all(ends)
    spec = line_chart(rows, x, y, band=("low", "high") if has_band else None, points=has_points)
    starts = [
        {"step": start.step, "restart": f"after step {start.step}"} for start in report.curves.starts[1:]
    ]
    if starts:
        rule = {
            "type": "rule",
            "strokeDash": [4, 3],
            "color": COLOURS["second"],
            "tooltip": {"content": "data"},
        }
        spec["layer"].append({"data": {"values": starts}, "mark": rule, "encoding": {}})
    return spec


def thinned(values: Mapping[int, float]) -> list[dict[str, float]]:
    """Return a curve in at most `_POINTS` points: step, mean value, lowest and highest."""
    steps = sorted(step for step, value in values.items() if math.isfinite(value))
    together = -(-len(steps) // _POINTS) or 1
    rows = []
    for first in range(0, len(steps), together):
        some = steps[first : first + together]
        found = [values[step] for step in some]
        rows.append({"step": some[-1], "value": fmean(found), "low": min(found), "high": max(found)})
    return rows


def _selection(report: RunReport) -> Sequence[Block]:
    facts = report.trained_on()
    shown = {
        "index": facts["index"],
        "version of the index": facts["version"],
        "selection": facts["selection"],
        "backbone": facts["backbone"],
        "fraction asked for": _percent(facts["fraction_asked"]),
        "fraction delivered": _percent(facts["fraction_delivered"]),
        "rollouts": facts["rollouts"],
        "held out for validation": facts["held_out"],
        "left out, as images are missing": facts["left_out_missing_images"],
        "broken images": facts["broken_images"],
    }
    rows = [
        [name, f"{value:,}" if isinstance(value, int) else str(value)]
        for name, value in shown.items()
        if value
    ]
    text = f"{_command(report)} shows the selection itself, bisieve lineage its shards."
    return [Table([Column("what"), Column("value")], rows, is_sortable=False), Note(text, is_small=True)]


def _command(report: RunReport) -> str:
    """Return the command that reports the selection that the run was trained on."""
    facts, identity = report.trained_on(), report.run.get("identity") or {}
    ranking = [*(name for name in RANKING if name not in ("scope", "seed")), "selection_seed"]
    options = {
        "version": facts["version"], "fraction": _percent(facts["fraction_asked"]),
        **{name: identity.get(name) for name in ranking},
        "exclude": "FILE_OF_IDS" if EXCLUDE in identity else None,
    }  # fmt: skip
    words = [
        f"--{name.replace('_', '-')} {value}" for name, value in options.items() if value not in ("", None)
    ]
    return " ".join([f"bisieve report --index {facts['index']}", *words, "--html FILE"])


def _options(report: RunReport) -> Table:
    identity = report.run.get("identity") or {}
    rows = [[name, str(value)] for name, value in sorted(identity.items())]
    return Table([Column("option"), Column("value")], rows)


def _percent(share: float | None) -> str:
    return "" if share is None else percent(share)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"
