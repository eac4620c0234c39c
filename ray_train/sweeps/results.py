"""Keep the results of trials: a JSON file for each, written as it ends, and a Parquet file of all.

OUTPUT/
  trials/ID.json     a finished trial: what it was, and all its metrics; ID is the hash of its identity
  sweep.parquet      a row for each finished trial of the last sweep
  sweep.json         the answer, and the cells of the table
  sweep.vl.json      the plot, a specification of Vega-Lite

The time of finished trials gives an estimate for the others (`Pace`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bisieve.errors import TrainingError
from bisieve.io import storage
from bisieve.io.urls import join
from ray_train.sweeps.answer import Cell
from ray_train.sweeps.grid import Trial

TRIALS, ROWS, ANSWER, PLOT = "trials", "sweep.parquet", "sweep.json", "sweep.vl.json"
AUC = "auc"  # the metric by which a model is compared with the position of a step alone

# Metrics of an evaluation that become columns.
METRICS = (
    "overall_f1", "pooled_macro_f1", "unweighted_f1", "f1_right", "f1_wrong", "auc", "brier",
    "calibration_error", "first_error_accuracy", "processbench_f1", "threshold",
)  # fmt: skip
_TEXTS = ("id", "strategy", "alpha", "objective", "index", "benchmark")
_WHOLE = ("seed", "rollouts", "available", "optimizer_steps")
SCHEMA = pa.schema(
    [(name, pa.string()) for name in _TEXTS]
    + [("fraction", pa.float64())]
    + [(name, pa.int64()) for name in _WHOLE]
    + [(name, pa.float64()) for name in ("mean_loss", "seconds", "evaluation_seconds", *METRICS)]
    + [("position_auc", pa.float64())]
)


@dataclass(frozen=True)
class Finished:
    """A trial with its result."""

    trial: Trial
    result: dict[str, Any]  # of `trial.run_trial`

    @property
    def rollouts(self) -> int:
        """Return how many rollouts were trained on."""
        return int(self.result["training"]["rollouts"])

    @property
    def seconds(self) -> float:
        """Return the time of the training and the evaluation."""
        return float(self.result["training"]["seconds"] + self.result["evaluation_seconds"])


def write_trial(output: str, trial: Trial, result: dict[str, Any]) -> None:
    """Write the file of a finished trial."""
    document = {"id": trial.id, **trial.axes, "identity": trial.identity, "result": result}
    url = join(output, TRIALS, f"{trial.id}.json")
    storage.write_bytes(url, msgspec.json.format(msgspec.json.encode(document), indent=1))


class _TrialFile(msgspec.Struct):
    identity: dict[str, Any]
    result: dict[str, Any]


def read_finished(output: str, trials: Sequence[Trial]) -> list[Finished]:
    """Return those of ``trials`` that are finished at the output, with their results.

    Raises:
        TrainingError: A file of a trial is damaged.
        StorageError: The output cannot be read.
    """
    folder = join(output, TRIALS)
    there = storage.file_names(folder) if storage.exists(folder) else set()
    return [
        Finished(trial, _read(join(folder, f"{trial.id}.json")))
        for trial in trials
        if f"{trial.id}.json" in there
    ]


def _read(url: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(storage.read_bytes(url), type=_TrialFile).result
    except (msgspec.MsgspecError, ValueError) as error:
        raise TrainingError(f"the result of a trial at {url}", str(error), "delete the file") from error


def write_rows(output: str, finished: Sequence[Finished], available: int) -> None:
    """Write the Parquet file, a row for each trial, in their order."""
    table = pa.Table.from_pylist([_row(each, available) for each in finished], SCHEMA)
    with storage.open_output(join(output, ROWS)) as file:
        pq.write_table(table, file)


def _row(finished: Finished, available: int) -> dict[str, Any]:
    trial, result = finished.trial, finished.result
    training = result["training"]
    return {
        "id": trial.id, **trial.axes, "index": trial.identity["index"],
        "benchmark": trial.identity["benchmark"], "available": available,
        **{name: training[name] for name in ("rollouts", "optimizer_steps", "mean_loss", "seconds")},
        "evaluation_seconds": result["evaluation_seconds"],
        **{name: result.get(name) for name in METRICS},
        "position_auc": result["position_baseline"]["auc"],
    }  # fmt: skip


def by_position(finished: Sequence[Finished], metric: str) -> float | None:
    """Return the metric of the position of a step alone, which is equal for all trials; None if undefined."""
    found = (each.result["position_baseline"].get(metric) for each in finished)
    return next((float(value) for value in found if value is not None), None)


def cells_of(finished: Sequence[Finished], metric: str) -> list[Cell]:
    """Return the results by all but the seed, in order of their first trial.

    Trials in which the metric is undefined are left out.
    """
    groups: dict[tuple[str, str, str, float], list[Finished]] = {}
    for each in finished:
        if each.result[metric] is not None:
            trial = each.trial
            key = (trial.strategy, trial.alpha, trial.objective, trial.fraction)
            groups.setdefault(key, []).append(each)
    return [
        Cell(
            strategy, alpha, objective, fraction,
            round(float(np.mean([each.rollouts for each in group]))),
            tuple(float(each.result[metric]) for each in group),
        )
        for (strategy, alpha, objective, fraction), group in groups.items()
    ]  # fmt: skip


@dataclass(frozen=True)
class Pace:
    """Seconds of the parts of a trial."""

    corpus: float  # one epoch over all rollouts
    evaluation: float

    def of(self, trial: Trial) -> float:
        """Return the seconds that a trial takes, about."""
        return self.corpus * passes(trial) + self.evaluation


def passes(trial: Trial) -> float:
    """Return how often a trial trains on as many rollouts as there are."""
    return trial.fraction * trial.train.epochs


def pace_of(finished: Sequence[Finished]) -> Pace | None:
    """Return the pace of finished trials; None if there are none."""
    if not finished:
        return None
    # The first trial of a process also imports torch and loads the backbone.
    later = [each for each in finished if not each.result.get("first_of_process")] or finished
    seconds = sum(each.result["training"]["seconds"] for each in later)
    return Pace(
        float(seconds / sum(passes(each.trial) for each in later)),
        float(np.mean([each.result["evaluation_seconds"] for each in later])),
    )


def in_words(seconds: float) -> str:
    """Return a time such as "34 s", "12 min" or "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
