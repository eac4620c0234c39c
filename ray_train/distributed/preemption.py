"""Preemption: save a checkpoint, and stop if asked to, before a machine is taken away.

SIGTERM at the driver ──board──▶ every rank ┐   (Ctrl-C there: the same, exit code 130)
SIGTERM at a worker   ─────────▶ that rank  ┴ sums of a step ─▶ all ranks: checkpoint, stop, exit code 143
Ray drains a node     ─────────▶ every rank ─ sums of a step ─▶ all ranks: checkpoint, go on until it is gone;
                                              Ray Train then resumes from it with new workers

Each rank adds its signals to the sums of a step (`PreemptionState.counts`), so that all ranks decide alike.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from bisieve.errors import InterruptedRunError, PreemptedError
from ray_train.compat.ray import WorkerCallback, get_train_context

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
        self._is_draining = is_draining or (lambda: _node_is_draining())
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


def _node_is_draining() -> bool:
    # As `ray.train.get_preemption_info`, but that is a collective of all ranks.
    return get_train_context().preemption_context.preemption_info is not None


class StopOnSigterm(WorkerCallback):
    """Callback by which a worker's first SIGTERM asks the run to stop; a second one ends the process."""

    def after_init_train_context(self) -> None:
        """Set the handler of SIGTERM."""
        # Ray calls this in the main thread, where handlers can be set; training has a thread of its own.
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    request_stop()


def _heard(board: Any) -> bool:
    """Ask all ranks to stop; return whether any rank is present to receive this."""
    try:
        return bool(ray.get(board.stop.remote()))
    except RayError:  # the board is gone
        return False


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

    Outside the main thread, where no handlers can be set, this does nothing.

    Args:
        board: Handle of the `board.Board` actor, from which the workers learn of the signal.
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
