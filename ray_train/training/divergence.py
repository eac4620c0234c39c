"""Stop a run whose loss or gradient diverges, before a checkpoint is made of its weights.

`DivergenceGuard` checks the loss before the update of the weights and the gradient norm after it. It raises
`TrainingError` and writes the rollouts of the step to ``stopped-at-step-N.json``. Each decision uses only
numbers that are equal on all ranks, so that all ranks stop in the same step.
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
from bisieve.io.urls import join
from ray_train.distributed.collectives import from_all_ranks

_WINDOW = 50  # last steps whose median gradient norm is the usual one
_LEAST = 10  # earlier steps needed before a norm can count as an explosion


def explodes(norm: float, earlier: Sequence[float], factor: float, clip: float) -> bool:
    """Return whether ``norm`` is far above the gradient norms of the ``earlier`` steps.

    Args:
        norm: Norm of the gradient before clipping.
        earlier: Norms of the steps before, the oldest first; the median of the last 50 is compared.
        factor: A norm above ``factor`` times the median explodes; 0 turns the check off.
        clip: The norm to which gradients are clipped; a norm up to this never explodes.

    Returns:
        False also while there are fewer than 10 earlier steps.
    """
    if factor == 0 or len(earlier) < _LEAST:
        return False
    return norm > max(clip, factor * median(earlier[-_WINDOW:]))


def recent_norms(norm: float, earlier: Sequence[float]) -> list[float]:
    """Return the norms that later steps compare with: those of the last 50 steps, this one included."""
    return [*earlier, norm][-_WINDOW:]


@dataclass
class StepRecord:
    """The rows of one step, and which of them this rank saw with a loss that is not finite."""

    step: int
    rows: list[int]  # rows of the selection in the global batch, of all ranks
    suspects: list[int]  # rows in micro-batches of this rank whose loss is not finite

    def add(self, loss: float, rows: list[int]) -> None:
        """Record a micro-batch: its ``rows`` become suspects if ``loss`` is not finite."""
        if not math.isfinite(loss):
            self.suspects += rows


@dataclass(frozen=True)
class DivergenceGuard:
    """Checks of each step's loss and gradient; all ranks must call them together."""

    rollout_ids: pa.ChunkedArray  # string [rows of the selection]
    folder: str  # URL of the folder for ``stopped-at-step-N.json``
    explode_above: float  # limit of the gradient norm, in medians of the earlier norms; 0: no limit
    clip: float  # norm to which gradients are clipped
    rank: int

    def check_loss(self, loss: float, watched: StepRecord) -> None:
        """Check the mean loss of a step before the weights are updated.

        Raises:
            TrainingError: The loss is not finite; raised on all ranks, after rank 0 has written the step's
                rollouts.
        """
        if not math.isfinite(loss):
            hint = "look at these rollouts, or lower --learning-rate and give --restart"
            raise self._stopped(watched, "a finite loss", {"loss": loss}, hint)

    def check_gradient(self, loss: float, norm: float, earlier: Sequence[float], watched: StepRecord) -> None:
        """Check the gradient norm of a step after the weights are updated.

        DeepSpeed computes the norm only during the update. It skips the update if the norm is not finite. An
        exploding gradient was clipped and applied, but these weights are lost with the workers, since no
        checkpoint is made of them.

        Raises:
            TrainingError: The norm is not finite, or it `explodes`; raised on all ranks, after rank 0 has
                written the step's rollouts.
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
        url = join(self.folder, f"stopped-at-step-{watched.step}.json")
        where = f"its rollouts are in {url}"
        if self.rank == 0:  # the user sees the error of this rank
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
        return TrainingError(expected, f"{numbers} at step {watched.step:,}; {where}", hint)

    def _ids(self, rows: list[int]) -> list[str]:
        ids: list[str] = self.rollout_ids.take(pa.array(rows, pa.int64())).to_pylist()
        return ids
