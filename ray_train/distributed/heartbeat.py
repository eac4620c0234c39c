"""Heartbeats of the ranks: send them to the board, and end the run that a stuck rank holds up.

rank: `Pulse` thread ──beats──▶ `Board` actor ◀──polls── `StuckRankWatchdog` in Ray Train's controller
rank: lines ───────────────────▶   │
                                   └──lines──▶ driver's terminal (`board.shown_board`)
"""

import socket
import sys
import threading
from typing import Any

import ray
from ray.exceptions import RayError

from bisieve.errors import TrainingError
from ray_train.compat.ray import WorkerGroupCallback
from ray_train.distributed import preemption
from ray_train.distributed.board import Beat
from ray_train.distributed.collectives import collectives_entered

_COLLECTIVES = ("torch.distributed.", "deepspeed.comm.")  # modules in which ranks wait for one another
_EVERY = 1.0  # most seconds between two heartbeats


class Pulse:
    """A thread that sends a rank's heartbeats to the board until `end`.

    The thread that makes it is the training thread, whose place in the code the heartbeats report. If the
    board answers that all ranks must stop, the worker is marked by `preemption.request_stop`.
    """

    def __init__(self, board: Any, rank: int, stuck_after: float) -> None:
        self.step: int | None = None  # the current step, set by the training loop
        self._alone = 0
        self._board = board
        self._rank = rank
        self._every = min(_EVERY, stuck_after / 10 or _EVERY)
        self._trainer = threading.get_ident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        if board is not None:
            self._thread.start()

    def _beat(self) -> None:
        node = socket.gethostname()
        try:
            while True:  # the first at once: a signal in the first second finds the rank present
                place, waits = whereabouts(self._trainer)
                entered = collectives_entered() + self._alone
                beat = Beat(self._rank, node, entered, self.step, place, waits)
                if ray.get(self._board.beat.remote(beat)):
                    preemption.request_stop()
                if self._ended.wait(self._every):
                    break
            self._board.leave.remote(self._rank)
        except RayError:  # the driver is gone, and Ray will soon end this worker
            return

    def mark_progress(self) -> None:
        """Count progress of work that this rank does alone, as if it had entered another collective."""
        self._alone += 1

    def end(self) -> None:
        """Stop the thread; it tells the board that the rank has finished."""
        self._ended.set()


def whereabouts(thread: int) -> tuple[str, bool]:
    """Return bisieve's innermost function on the stack of ``thread``, and whether it waits for other ranks.

    Args:
        thread: Identifier of a thread of this process.

    Returns:
        The function with its line, and whether a collective is among the frames that it called.
    """
    frame, waits = sys._current_frames().get(thread), False
    while frame is not None:
        module, function = str(frame.f_globals.get("__name__")), frame.f_code.co_name
        if module.startswith(("ray_train.", "bisieve.")):
            return f"{module}.{function}, line {frame.f_lineno}", waits
        waits |= module.startswith(_COLLECTIVES) or (module.startswith("deepspeed.") and function == "wait")
        frame = frame.f_back
    return "a place unknown", waits


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
