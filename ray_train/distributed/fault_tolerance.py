"""Fault tolerance: what can interrupt a run, and what the run does then.

SIGTERM at the driver ──board──▶ every rank ┐   (Ctrl-C there: the same, exit code 130)
SIGTERM at a worker   ─────────▶ that rank  ┴ sums of a step ─▶ all ranks: checkpoint, stop, exit code 143
Ray drains a node     ─────────▶ every rank ─ sums of a step ─▶ all ranks: checkpoint, go on until it is gone;
                                              Ray Train then resumes from it with new workers
a worker was killed   ─────────▶ `FailurePolicy`: Ray Train resumes from the last checkpoint, at most
                                              ``--max-failures`` times
the disk is full      ─────────▶ `FailurePolicy`: the run ends, since another try would find it full, too
a rank hangs          ──board──▶ `StuckRankWatchdog`: the run ends, and names the rank

Each rank adds its signals to the sums of a step (`PreemptionState.counts`), so that all ranks decide alike.
Requests that the controller, bisieve or a library repeats by itself are shown to the user (`show_retries`).
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.exceptions import TrainingFailedError

from bisieve._redact import without_secrets
from bisieve.errors import DiskError, InterruptedRunError, PreemptedError, StorageError, TrainingError
from bisieve.io.retry import RETRIES, is_transient
from ray_train.cluster import unwrapped
from ray_train.compat.ray import (
    ControllerCallback,
    DefaultFailurePolicy,
    FailureDecision,
    WorkerCallback,
    WorkerGroupCallback,
    get_train_context,
)

# Loggers of libraries that retry by themselves: the client of MLflow's server, and that of the hub.
_THEIR_RETRIES = ("urllib3.connectionpool", "huggingface_hub.utils._http")

_stop_requested = threading.Event()  # in a worker: set once it was asked to stop


def request_stop() -> None:
    """Ask this worker, and through it all workers, to stop at the end of the current step."""
    _stop_requested.set()


class PreemptionState:
    """Preemption state, identical on every rank after `update`.

    Args:
        is_draining: Tells whether the node of this rank is being drained; by default Ray Train is asked.
    """

    def __init__(self, is_draining: Callable[[], bool] | None = None) -> None:
        self._is_draining = is_draining or _node_is_draining
        self.stop = False  # write a checkpoint, then end the run
        self.save = False  # write a checkpoint after this step
        self._draining = False  # a node was being drained in the last step

    def counts(self) -> dict[str, float]:
        """Return what this rank adds to the sums of a step: 1 for each kind of signal received, else 0."""
        return {"stop": float(_stop_requested.is_set()), "draining": float(self._is_draining())}

    def update(self, sums: dict[str, float]) -> None:
        """Update the state from the ``sums`` over all ranks, and remove its own counts from them.

        A drained node asks for one checkpoint, in the first step in which any rank sees the drain.
        """
        self.stop = sums.pop("stop") > 0
        draining = sums.pop("draining") > 0
        self.save = self.stop or (draining and not self._draining)
        self._draining = draining


def _node_is_draining() -> bool:
    # As `ray.train.get_preemption_info`, but that is a collective of all ranks.
    return get_train_context().preemption_context.preemption_info is not None


def preempted(step: int, total: int, again: str) -> PreemptedError:
    """Return the error that ends a preempted run after its checkpoint.

    Args:
        step: Steps done, all of them in the checkpoint.
        total: Steps of the whole run.
        again: Text that says how to resume the run.
    """
    return PreemptedError(
        "the training to reach its end",
        f"SIGTERM; stopped after step {step:,} of {total:,} with a checkpoint",
        f"{again}: it goes on from there",
    )


class StopOnSigterm(WorkerCallback):
    """Callback by which a worker's first SIGTERM asks the run to stop; a second one ends the process."""

    def after_init_train_context(self) -> None:
        """Set the handler of SIGTERM."""
        # Ray calls this in the main thread, where handlers can be set; training has a thread of its own.
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    request_stop()


@dataclass
class Asked:
    """The last signal that asked the driver to stop."""

    by: int | None = None  # SIGTERM or SIGINT; None: the driver was not asked to stop

    def named(self, error: PreemptedError) -> PreemptedError:
        """Return ``error``, or after Ctrl-C an `InterruptedRunError` that names Ctrl-C instead of SIGTERM."""
        if self.by != signal.SIGINT:
            return error
        expected, found, hint = error.args
        return InterruptedRunError(expected, found.replace("SIGTERM", "Ctrl-C", 1), hint)


@contextmanager
def forward_signals(board: Any, again: str) -> Iterator[Asked]:
    """Pass SIGTERM and Ctrl-C from the driver on to the workers while the block runs.

    Outside the main thread, where no handlers can be set, nothing is passed on.

    Args:
        board: Handle of the `heartbeat.Board` actor, from which the workers learn of the signal.
        again: Text that says how to resume the run.

    Yields:
        An `Asked` that tells which signal came.

    Raises:
        PreemptedError: No worker was present at the signal, or it was the second one; the block ends at once.
            After Ctrl-C it is an `InterruptedRunError`.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    ended = False

    def on_signal(number: int, frame: object) -> None:
        nonlocal ended
        again_asked, asked.by = asked.by is not None, number
        if again_asked or not _heard(board):
            ended = True
            raise KeyboardInterrupt  # the only exception that reliably ends a waiting `ray.get`

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, on_signal)
    try:
        yield asked
    except BaseException:
        if ended:
            stopped = PreemptedError("the training to reach its end", "SIGTERM", f"{again}: it goes on")
            raise asked.named(stopped) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heard(board: Any) -> bool:
    """Ask all ranks to stop; return whether any rank is present to receive this."""
    try:
        return bool(ray.get(board.stop.remote()))
    except RayError:  # the board is gone
        return False


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


class StuckRankWatchdog(WorkerGroupCallback):
    """Callback that ends a run in which ranks make no progress, with an error that names the stuck rank.

    It runs in Ray Train's controller, which then ends all workers, the stuck one included.
    """

    def __init__(self, board: Any, after: float, again: str) -> None:
        self._board = board
        self._after = after
        self._again = again  # text that says how to resume the run

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Forget the heartbeats of the previous workers, which Ray Train has ended."""
        ray.get(self._board.forget.remote())

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        """Check the heartbeats each time Ray Train polls the workers.

        Raises:
            TrainingError: The ranks made no progress for too long; names the ranks that hold up the others.
        """
        if stuck := ray.get(self._board.stuck.remote(self._after)):
            raise TrainingError(
                f"progress of every rank within {self._after:g} s",
                stuck,
                "look at that machine and its log, or give more time with --stuck-after; then "
                f"{self._again}: training goes on from its last checkpoint",
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
        board: Handle of the `heartbeat.Board` actor; None: retries go to this process's log again.
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
