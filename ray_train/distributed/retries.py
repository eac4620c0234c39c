"""Which failures of workers are tried again, and that every new try is said at once."""

import logging
from typing import Any

import ray
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.exceptions import TrainingFailedError

from bisieve.errors import DiskError, StorageError
from bisieve.masking import without_secrets
from bisieve.patience import RETRIES, passes
from ray_train.cluster import unwrapped


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
        not isinstance(cause, Exception) or isinstance(cause, StorageError) or passes(cause)
    )


class ShownRetries(ControllerCallback):
    """Shows what Ray Train's controller tries again at the store of a run."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ray calls this in the controller's process."""
        show_retries(self._board, "controller")


def show_retries(board: Any, who: str) -> None:
    """Show on the driver's terminal what this process tries again (`bisieve.patience.say_retry`)."""
    shown = [_OnBoard(board, who)] if board is not None else []
    for logger in (RETRIES, *map(logging.getLogger, _THEIR_RETRIES)):
        logger.handlers = [*(one for one in logger.handlers if not isinstance(one, _OnBoard)), *shown]
    RETRIES.propagate = board is None


# Who warns of retries of its own: the client of MLflow's server, and that of the hub.
_THEIR_RETRIES = ("urllib3.connectionpool", "huggingface_hub.utils._http")


class _OnBoard(logging.Handler):
    def __init__(self, board: Any, who: str) -> None:
        super().__init__()
        self._board, self._who = board, who

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == RETRIES.name or record.getMessage().startswith("Retrying"):
            self._board.put.remote(f"{self._who}: {without_secrets(record.getMessage())}")
