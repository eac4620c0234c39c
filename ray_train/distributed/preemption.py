"""Notices that the machine is about to be taken away, and what they come to.

SIGTERM at the driver ──board──▶ every rank ┐   (Ctrl-C there: the same, exit code 130)
SIGTERM at a worker   ─────────▶ that rank  ┴ sums of a step ─▶ all ranks: checkpoint, stop, exit code 143
Ray drains a node     ─────────▶ every rank ─ sums of a step ─▶ all ranks: checkpoint, go on until it is gone;
                                              Ray Train then goes on from there with new workers
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from bisieve.errors import InterruptedRunError, PreemptedError
from ray_train.compat.ray import WorkerCallback, get_train_context

_given = threading.Event()  # in a worker: it is to stop


def give() -> None:
    """This worker is to stop at the end of its step, and with it all others."""
    _given.set()


class PreemptionState:
    """What a rank has heard, and what all ranks have made of it; the same on all once they have summed."""

    def __init__(self) -> None:
        self.stop = False  # save, then end the run
        self.save = False  # save now
        self._draining = False

    def counts(self) -> dict[str, float]:
        """What this rank brings to the sums of a step."""
        return {"stop": float(_given.is_set()), "draining": float(_node_is_draining())}

    def update(self, sums: dict[str, float]) -> None:
        """Takes its counts out of the ``sums`` over all ranks."""
        self.stop = sums.pop("stop") > 0
        draining = sums.pop("draining") > 0
        self.save = self.stop or (draining and not self._draining)
        self._draining = draining


def preempted(step: int, total: int, again: str) -> PreemptedError:
    """What a run ends with that was told to stop and has saved ``step`` steps; ``again`` lets it go on."""
    return PreemptedError(
        "the training to reach its end",
        f"SIGTERM; stopped after step {step} of {total} with a checkpoint",
        f"{again}: it goes on from there",
    )


def _node_is_draining() -> bool:
    # What `ray.train.get_preemption_info` gives, without the meeting of all ranks it would make of it.
    return get_train_context().preemption_context.preemption_info is not None


class HeedSigterm(WorkerCallback):
    """SIGTERM at a worker is a notice; a second one ends the process."""

    def after_init_train_context(self) -> None:
        # Ray calls this in the main thread, where handlers can be set; training has a thread of its own.
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    give()


def _heard(board: Any) -> bool:
    """Whether a worker will hear of it that the run is to stop."""
    try:
        return bool(ray.get(board.stop.remote()))
    except RayError:  # the board is gone
        return False


@dataclass
class Asked:
    """The signal by which the driver was asked to stop; None as long as it was not."""

    by: int | None = None

    def named(self, error: PreemptedError) -> PreemptedError:
        """Return ``error``, as Ctrl-C's where it was Ctrl-C that stopped the run."""
        if self.by != signal.SIGINT:
            return error
        expected, found, hint = error.args
        return InterruptedRunError(expected, found.replace("SIGTERM", "Ctrl-C", 1), hint)


@contextmanager
def passed_on(board: Any, again: str) -> Iterator[Asked]:
    """Pass SIGTERM and Ctrl-C at the driver on to the workers, and yield which of them came.

    Where no worker could hear it, and at a second signal, the block ends with a `PreemptedError`, which says
    that ``again`` lets the run go on.
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
            raise KeyboardInterrupt  # the one exception that surely comes out of a waiting `ray.get`

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
