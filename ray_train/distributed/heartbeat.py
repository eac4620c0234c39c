"""The beats of a rank, and what comes of it when they show that one is stuck."""

import socket
import sys
import threading
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train.v2._internal.execution.callback import WorkerGroupCallback

from bisieve.errors import TrainingError
from ray_train.run import agreement, notice
from ray_train.run.attendance import Beat

_COLLECTIVES = ("torch.distributed.", "deepspeed.comm.")  # modules in which ranks wait for one another
_EVERY = 1.0  # seconds from one beat to the next, at most


class Pulse:
    """Beats at the board from now until `end`, on behalf of the thread that makes it."""

    def __init__(self, board: Any, rank: int, stuck_after: float) -> None:
        self.step: int | None = None  # that the rank is at
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
            while not self._ended.wait(self._every):
                place, waits = whereabouts(self._trainer)
                beat = Beat(self._rank, node, agreement.meetings() + self._alone, self.step, place, waits)
                if ray.get(self._board.beat.remote(beat)):
                    notice.give()
            self._board.leave.remote(self._rank)
        except RayError:  # the driver is gone, and soon this worker, too
            return

    def come_on(self) -> None:
        """This rank has come on with what it does alone, after the last meeting: it counts as another one."""
        self._alone += 1

    def end(self) -> None:
        self._ended.set()


def whereabouts(thread: int) -> tuple[str, bool]:
    """Where ``thread`` stands, the innermost of our functions, and whether it waits there for other ranks."""
    frame, waits = sys._current_frames().get(thread), False
    while frame is not None:
        module, function = str(frame.f_globals.get("__name__")), frame.f_code.co_name
        if module.startswith(("ray_train.", "bisieve.")):
            return f"{module}.{function}, line {frame.f_lineno}", waits
        waits |= module.startswith(_COLLECTIVES) or (module.startswith("deepspeed.") and function == "wait")
        frame = frame.f_back
    return "a place unknown", waits


class StuckWatch(WorkerGroupCallback):
    """Ends the run with a `TrainingError` that names the rank for which the others wait too long.

    It lives where Ray Train looks after the workers, and ends them all, the stuck one, too.
    """

    def __init__(self, board: Any, after: float, again: str) -> None:
        self._board = board
        self._after = after
        self._again = again  # what to do for the run to go on

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Of ranks that were killed nothing is to be waited for."""
        ray.get(self._board.forget.remote())

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        if stuck := ray.get(self._board.stuck.remote(self._after)):
            raise TrainingError(
                f"every rank to go on within {self._after:g} s",
                stuck,
                "look at that machine and its log, or give more time with --stuck-after; then "
                f"{self._again}: training goes on from its last checkpoint",
            )
