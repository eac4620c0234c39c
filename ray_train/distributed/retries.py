"""Retries of a run: which worker failures are retried, and how each retry is reported."""

import logging
from typing import Any

import ray
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.exceptions import TrainingFailedError

from bisieve._redact import without_secrets
from bisieve.errors import DiskError, StorageError
from bisieve.io.retry import RETRIES, is_transient
from ray_train.cluster import unwrapped
from ray_train.compat.ray import ControllerCallback, DefaultFailurePolicy, FailureDecision

# Loggers of libraries that retry by themselves: the client of MLflow's server, and that of the hub.
_THEIR_RETRIES = ("urllib3.connectionpool", "huggingface_hub.utils._http")


class FailurePolicy(DefaultFailurePolicy):
    """Ray Train's failure policy, except that a permanent storage error, such as a full disk, is not retried.

    After a killed worker, or a store that was unavailable for too long, the run is still retried, up to
    ``max_failures`` times.
    """

    def __init__(self, failure_config: FailureConfig, board: Any) -> None:
        super().__init__(failure_config)
        self._board = board
        self._retries = 0

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        """Decide whether to retry after a failure; for a retry, put a line with its reason on the board."""
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
    # Pickling drops an error's cause; an error without cause may be transient.
    cause = error.__cause__
    return not isinstance(error, DiskError) and (
        not isinstance(cause, Exception) or isinstance(cause, StorageError) or is_transient(cause)
    )


class ShownRetries(ControllerCallback):
    """Callback that shows on the driver's terminal what Ray Train's controller retries at the run's store."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def after_controller_start(self, train_run_context: Any) -> None:
        """Show the retries of this process; Ray calls this in the controller's process."""
        show_retries(self._board, "controller")


def show_retries(board: Any, who: str) -> None:
    """Show retries of this process on the driver's terminal, also those of the hub's and MLflow's clients.

    This replaces the handler of an earlier call. bisieve logs its retries by `bisieve.io.retry.say_retry`.

    Args:
        board: Handle of the `board.Board` actor; None: retries go to this process's log again.
        who: Begins each line, such as "rank 3".
    """
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
