"""Stops a run whose loss or gradient has blown up, before its weights are kept, and saves what it was shown.

All is decided on numbers that all ranks share, so that all ranks stop together.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pyarrow as pa

from bisieve.errors import StorageError, TrainingError
from bisieve.io import storage
from ray_train.distributed.collectives import from_all_ranks

_WINDOW = 50  # steps whose gradients say what is usual
_LEAST = 10  # steps before anything is unusual


def explodes(norm: float, earlier: Sequence[float], factor: float, clip: float) -> bool:
    """Whether ``norm`` is above ``factor`` times the median of the ``earlier`` steps', and is clipped.

    False while there are few earlier steps, and where ``factor`` is 0.
    """
    if factor == 0 or len(earlier) < _LEAST:
        return False
    return norm > max(clip, factor * median(earlier[-_WINDOW:]))


def remembered(norm: float, earlier: Sequence[float]) -> list[float]:
    """The norms to keep for the steps that follow."""
    return [*earlier, norm][-_WINDOW:]


@dataclass
class StepRecord:
    """What this rank has put through the model in one step."""

    step: int
    rows: list[int]  # of the selection, in the global batch
    suspects: list[int]  # those in a micro-batch of this rank whose loss is no finite number

    def add(self, loss: float, rows: list[int]) -> None:
        """Takes note of a micro-batch."""
        if not math.isfinite(loss):
            self.suspects += rows


@dataclass(frozen=True)
class DivergenceGuard:
    """What decides that a run must stop, and where it says so; all ranks call together."""

    rollout_ids: pa.ChunkedArray  # of the selection's rows
    folder: str  # URL that gets the file of a stop
    explode_above: float  # 0: never
    clip: float
    rank: int

    def check_loss(self, loss: float, watched: StepRecord) -> None:
        """`TrainingError`, on all ranks, unless the mean loss of the step is a number: before the update."""
        if not math.isfinite(loss):
            hint = "look at these rollouts, or lower --learning-rate and give --restart"
            raise self._stopped(watched, "a finite loss", {"loss": loss}, hint)

    def check_gradient(self, loss: float, norm: float, earlier: Sequence[float], watched: StepRecord) -> None:
        """`TrainingError`, on all ranks, where the gradient of the step is no number, or explodes.

        DeepSpeed has no norm before it updates.  It does not update where the norm is no number; else the
        update was clipped, and is lost with the workers, since no checkpoint is made of it.
        """
        found: dict[str, Any] = {"loss": loss, "gradient_norm": norm}
        if not math.isfinite(norm):
            raise self._stopped(
                watched,
                "a finite gradient",
                found,
                "look at these rollouts, or lower --learning-rate and give --restart",
            )
        if explodes(norm, earlier, self.explode_above, self.clip):
            usual = median(earlier)
            raise self._stopped(
                watched,
                f"a gradient of at most {self.explode_above:g} times its usual norm of {usual:.3g}",
                found | {"usual_gradient_norm": usual},
                "look at these rollouts, raise --explode-above to go on, or lower --learning-rate "
                "and give --restart",
            )

    def _stopped(self, watched: StepRecord, expected: str, found: dict[str, Any], hint: str) -> TrainingError:
        suspects = sorted(row for rows in from_all_ranks(watched.suspects) for row in rows)
        numbers = ", ".join(f"{name.replace('_', ' ')} {value:.6g}" for name, value in found.items())
        url = storage.join(self.folder, f"stopped-at-step-{watched.step}.json")
        where = f"its rollouts are in {url}"
        if self.rank == 0:  # whose error is the one that the user sees
            record = {
                "step": watched.step,
                **{name: value if math.isfinite(value) else str(value) for name, value in found.items()},
                "rows": watched.rows,
                "rollout_ids": self._ids(watched.rows),
                "suspects": self._ids(suspects),
            }
            try:
                storage.write_bytes(url, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
            except StorageError as error:
                where = f"its rows are {watched.rows[:8]} and so on: {url} could not be written ({error})"
        return TrainingError(expected, f"{numbers} at step {watched.step}; {where}", hint)

    def _ids(self, rows: list[int]) -> list[str]:
        ids: list[str] = self.rollout_ids.take(pa.array(rows, pa.int64())).to_pylist()
        return ids
