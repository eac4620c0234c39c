"""Retries of a run: which worker failures are retried, and how each retry is reported."""

import logging
from typing import Any

import ray
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.train.v2.torch.torch_trainer import TorchTrainer

from bisieve._redact import without_secrets
from bisieve.errors import DiskError, StorageError
from bisieve.io.retry import RETRIES, is_transient
from ray_train.cluster import unwrapped
from ray_train.compat.ray import (
    ControllerCallback,
    DatasetsCallback,
    DefaultFailurePolicy,
    FailureDecision,
    PlacementGroupCleanerCallback,
    get_dashboard_url,
)

# Who warns of retries of its own: the client of MLflow's server, and that of the hub.
_THEIR_RETRIES = ("urllib3.connectionpool", "huggingface_hub.utils._http")


class FailurePolicy(DefaultFailurePolicy):
    """Ray Train's policy, except that what cannot pass by itself, such as a full disk, ends the run at once.

    A worker that was killed, or a store that was away for too long, is still tried ``max_failures`` times.
    """

    def __init__(self, failure_config: FailureConfig, board: Any) -> None:
        super().__init__(failure_config)
        self._board = board
        self._retries = 0

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        """Return whether to try again; a line on the board says so."""
        error = unwrapped(training_failed_error, "the workers to go on", "")
        if isinstance(error, StorageError) and not _may_pass(error):
            return FailureDecision.RAISE
        decision = super().make_decision(training_failed_error)
        if decision == FailureDecision.RETRY:
            self._retries += 1
            limit = self.failure_config.max_failures
            of = f" of at most {limit}" if limit >= 0 else ""
            found = " ".join(str(error.args[1]).split())
            line = f"retry {self._retries}{of}: training goes on from its last checkpoint, after: {found}"
            ray.get(self._board.put.remote(line))
        return decision


def _may_pass(error: StorageError) -> bool:
    # A cause is lost where an error was pickled; what was lost is not known to be final.
    cause = error.__cause__
    return not isinstance(error, DiskError) and (
        not isinstance(cause, Exception) or isinstance(cause, StorageError) or is_transient(cause)
    )


class ShownRetries(ControllerCallback):
    """Shows what Ray Train's controller tries again at the store of a run."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ray calls this in the controller's process."""
        show_retries(self._board, "controller")


def show_retries(board: Any, who: str) -> None:
    """Show on the driver's terminal what this process tries again (`bisieve.io.retry.say_retry`)."""
    shown = [_OnBoard(board, who)] if board is not None else []
    for logger in (RETRIES, *map(logging.getLogger, _THEIR_RETRIES)):
        logger.handlers = [*(one for one in logger.handlers if not isinstance(one, _OnBoard)), *shown]
    RETRIES.propagate = board is None


class _OnBoard(logging.Handler):
    def __init__(self, board: Any, who: str) -> None:
        super().__init__()
        self._board, self._who = board, who

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == RETRIES.name or record.getMessage().startswith("Retrying"):
            self._board.put.remote(f"{self._who}: {without_secrets(record.getMessage())}")


class Trainer(TorchTrainer):
    """Ray Train's trainer without the actors that have nothing to do here.

    The manager of Ray Data's datasets, of which there are none: a process that imports Ray Data each time
    workers start.  The cleaner of placement groups asks the dashboard whether the controller lives; where
    there is none, on the Ray that we start for one command, it gets no answer, and every run waits 12 s for
    it to give up.
    """

    def __init__(self, *args: Any, board: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._board = board

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        failures: Any = self.run_config.failure_config
        parts["failure_policy"] = FailurePolicy(failures, self._board)
        return super()._initialize_and_run_controller(**parts)

    def _register_sigint_handler(self, controller: Any) -> None:
        """Keep the handler of `preemption.passed_on`: Ray Train's (2.60) aborts without a checkpoint."""

    def _create_default_callbacks(self) -> list[Any]:
        idle: tuple[type, ...] = (DatasetsCallback,)
        if not get_dashboard_url():  # type: ignore[no-untyped-call]
            idle += (PlacementGroupCleanerCallback,)
        return [one for one in super()._create_default_callbacks() if not isinstance(one, idle)]
