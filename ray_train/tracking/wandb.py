"""Weights & Biases: account, project and mode from the environment (``WANDB_API_KEY``, ``WANDB_PROJECT``, …).

The id of a run is its name, so a resumed one goes on with its curves.  ``WANDB_MODE=offline`` writes to
``WANDB_DIR``, or below an output on a disk, for ``wandb sync``.
"""

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

from bisieve.io import storage
from ray_train.tracking.base import Run

_PROJECT = "bisieve"


def start(run: Run) -> "WeightsAndBiases":
    """The W&B run of ``run``, a new one or the one it had."""
    wandb: Any = import_module("wandb")
    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,  # the command line of a worker is Ray's
    )
    ours = wandb.init(
        project=os.environ.get("WANDB_PROJECT", _PROJECT), id=run.name, name=run.name, resume="allow",
        dir=os.environ.get("WANDB_DIR", _folder(run.output)), settings=settings, reinit="create_new",
    )  # fmt: skip
    ours.config.update({**run.params, "lineage": run.lineage}, allow_val_change=True)
    return WeightsAndBiases(ours, wandb.teardown)


def _folder(output: str) -> str | None:
    fs, path = storage.open_filesystem(output)
    return path if "file" in fs.protocol else None


class WeightsAndBiases:
    """A `Tracker` that hands metrics to W&B's own process, which sends them."""

    def __init__(self, run: Any, end_process: Callable[[], None]) -> None:
        self._run = run
        self._end_process = end_process

    def add(self, step: int, values: dict[str, float], seconds: float) -> None:
        """A step that the run has already is dropped by W&B."""
        self._run.log(values, step=step)

    def commit(self) -> None:
        """Nothing to do: it is sent as it comes."""

    def close(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)
        self._end_process()  # and waits for it: an offline run may still be on its way to the disk
