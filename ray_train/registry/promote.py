"""How a model stands: its numbers, and what they were measured on.

A pointer keeps all of it: the files of an evaluation may be written over by a later one.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from bisieve import storage
from bisieve.errors import TrainingError
from ray_train.evaluation.protocol import CALIBRATION, TRAINING

METRICS = "metrics.json"
CHOICES = ("overall_f1", "pooled_macro_f1", "auc")  # the first is what the protocol reports
# What two evaluations must share: the same steps, judged by the same people, in the same halves.
MEASURED_ON = ("benchmark_sha256", "seed", "solutions", "steps", "calibration_steps", "confidence")
# Shared as well; what was written before there was a choice has none of these.
PROTOCOL = {"prompt": TRAINING, "threshold_on": CALIBRATION}


@dataclass(frozen=True)
class Standing:
    """A model and its evaluation."""

    model: str  # as it was evaluated: a canonical URL or a hub id
    metrics: str  # URL of the evaluation's file
    run: str | None  # None: a model that bisieve did not train
    values: dict[str, float | None]  # by metric, as are the bounds
    bounds: dict[str, float | None]  # lower confidence bounds
    benchmark: str
    measured_on: dict[str, Any]  # of MEASURED_ON and PROTOCOL

    @property
    def as_the_papers_code(self) -> str:
        """What was done as the paper's code does it; empty: nothing."""
        others = {name: self.measured_on[name] for name in PROTOCOL}
        return ", ".join(f"{name} {value}" for name, value in others.items() if value != PROTOCOL[name])

    def number(self, metric: str) -> tuple[float, float]:
        """The value of ``metric`` and its lower bound; `TrainingError` where there is none."""
        value, bound = self.values.get(metric), self.bounds.get(metric)
        if value is None or bound is None:
            raise TrainingError(
                f"{metric} and its lower bound in {self.metrics}", "none: one kind of step is too rare",
                f"give another --metric: {', '.join(CHOICES)}",
            )  # fmt: skip
        # JSON in Python takes NaN, which is neither worse nor better than anything.
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in (value, bound)):
            raise TrainingError(
                f"numbers for {metric} and its lower bound in {self.metrics}", f"{value} and {bound}",
                "run bisieve evaluate again",
            )  # fmt: skip
        return value, bound

    def pointer(self, metric: str) -> bytes:
        """The pointer that names this model as the current one."""
        value, bound = self.number(metric)
        chosen = {"metric": metric, "value": value, "bound": bound}
        fields = asdict(self)
        named = {name: fields.pop(name) for name in ("model", "metrics", "run")}
        return json.dumps({**named, **chosen, **fields}, indent=1, ensure_ascii=False).encode() + b"\n"


def evaluated(metrics: str) -> Standing:
    """What an evaluation found; ``metrics`` is its folder or its file.  `TrainingError` where it is none."""
    metrics = storage.canonical(metrics)
    url = metrics if metrics.endswith(".json") else storage.join(metrics, METRICS)
    mend = "check --metrics, or run bisieve evaluate again"

    def make(found: dict[str, Any]) -> Standing:
        return Standing(
            found["model"], url, found["run"],
            {name: found[name] for name in CHOICES}, {name: found["lower_bounds"][name] for name in CHOICES},
            found["benchmark"], {**{name: found[name] for name in MEASURED_ON},
                                 **{name: found.get(name, own) for name, own in PROTOCOL.items()}},
        )  # fmt: skip

    return _read(
        storage.read_bytes(url), make, f"the metrics of bisieve evaluate, with bounds, at {url}", mend
    )


def pointed_at(data: bytes, url: str) -> Standing:
    """The current model, by its pointer; `TrainingError` where it is none."""

    def make(found: dict[str, Any]) -> Standing:
        fields = {name: found[name] for name in Standing.__dataclass_fields__}
        return Standing(**{**fields, "measured_on": {**PROTOCOL, **fields["measured_on"]}})

    return _read(data, make, f"a pointer of bisieve promote at {url}", "give another --pointer, or remove it")


def _read(data: bytes, make: Any, expected: str, mend: str) -> Standing:
    try:
        standing: Standing = make(json.loads(data))
    except KeyError as error:
        raise TrainingError(expected, f"one without {error.args[0]}", mend) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise TrainingError(expected, "something else", mend) from error
    return standing
