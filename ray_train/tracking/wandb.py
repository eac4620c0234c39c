"""The tracker for Weights & Biases, set up by its environment variables (``WANDB_API_KEY``, …).

The W&B run has bisieve's run name as its id, so a resumed run continues its curves. With
``WANDB_MODE=offline`` the run is written to ``WANDB_DIR``, or else below an output on a local disk, for
``wandb sync``.
"""

import netrc
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bisieve.errors import TrainingError
from bisieve.io.urls import open_filesystem
from ray_train.tracking.base import Run

_PROJECT = "bisieve"
_DEFAULT = "https://api.wandb.ai"


def check() -> None:
    """Check that there is an account, unless W&B is offline, or the workers may have one elsewhere.

    Raises:
        TrainingError: There is none.
    """
    if os.environ.get("WANDB_MODE", "online") in ("offline", "disabled", "dryrun"):
        return
    if "RAY_ADDRESS" in os.environ:
        return
    if not any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        host = urlsplit(os.environ.get("WANDB_BASE_URL", _DEFAULT)).hostname or ""
        if not _has_netrc_entry(host):
            raise TrainingError(
                "an account for --track wandb",
                f"neither WANDB_API_KEY nor a login to {host}",
                "set WANDB_API_KEY, or WANDB_MODE=offline, or give another --track",
            )


def _has_netrc_entry(host: str) -> bool:
    file = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        return netrc.netrc(file).authenticators(host) is not None
    except OSError:
        return False
    except netrc.NetrcParseError:  # wandb has a parser of its own, which may read it
        return True


def start(run: Run) -> "WeightsAndBiases":
    """Create the W&B run of ``run``, or continue the one that it had; log its options and lineage."""
    wandb: Any = import_module("wandb")
    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,  # it would record the command line of a Ray worker
    )
    ours = wandb.init(
        project=os.environ.get("WANDB_PROJECT", _PROJECT), id=run.name, name=run.name, resume="allow",
        dir=os.environ.get("WANDB_DIR", _folder(run.output)), settings=settings, reinit="create_new",
    )  # fmt: skip
    ours.config.update({**run.params, "lineage": run.lineage}, allow_val_change=True)
    return WeightsAndBiases(ours, wandb.teardown)


def _folder(output: str) -> str | None:
    fs, path = open_filesystem(output)
    return path if "file" in fs.protocol else None


class WeightsAndBiases:
    """A `Tracker` that passes metrics to W&B's own process, which sends them."""

    def __init__(self, run: Any, end_process: Callable[[], None]) -> None:
        self._run = run
        self._end_process = end_process

    def add(self, step: int, values: dict[str, float], seconds: float) -> None:
        """Log the metrics; W&B drops those of a step that the run has already."""
        self._run.log(values, step=step)

    def commit(self) -> None:
        """Do nothing, since W&B sends metrics as they come."""

    def close(self, finished: bool) -> None:
        """Finish the W&B run, with exit code 0 if it is ``finished`` and else 1, and end W&B's process."""
        self._run.finish(exit_code=0 if finished else 1)
        self._end_process()  # waits: an offline run may not be fully written to the disk yet
