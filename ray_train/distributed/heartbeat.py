"""Heartbeats of ranks: name one that is stuck, stop all, and show their lines on the driver.

Ranks meet many times a step (see `collectives`), and who waits for another cannot say so.  So each beats,
from a thread that goes on while the rank waits or hangs, and one place hears them all.
"""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bisieve.errors import TrainingError
from ray_train.compat.ray import WorkerGroupCallback
from ray_train.distributed import collectives, preemption

PRESENT = 10.0  # seconds since its last beat in which a rank counts as there

_COLLECTIVES = ("torch.distributed.", "deepspeed.comm.")  # modules in which ranks wait for one another
_EVERY = 1.0  # seconds from one beat to the next, at most


@dataclass(frozen=True)
class Beat:
    """A sign of life."""

    rank: int
    node: str
    meetings: int  # that the rank has come to; equal on all ranks that wait for one another
    step: int | None  # that it is at, None before the first
    place: str  # where in the code it stands
    waits: bool = False  # there for other ranks, in a collective


class HeartbeatMonitor:
    """The last beat of every rank."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[int, tuple[float, Beat]] = {}
        self._progress = clock()  # when a rank last came to another meeting
        self._stop = False

    def beat(self, beat: Beat) -> bool:
        """Takes a beat in; whether all are to stop."""
        now = self._clock()
        before = self._heard.get(beat.rank)
        if before is None or before[1].meetings != beat.meetings:
            self._progress = now
        self._heard[beat.rank] = (now, beat)
        return self._stop

    def leave(self, rank: int) -> None:
        """``rank`` has nothing left to do."""
        self._heard.pop(rank, None)
        self._progress = self._clock()

    def forget(self) -> None:
        """Other ranks are to come: what was heard of those before counts no more."""
        self._heard.clear()
        self._progress = self._clock()

    def stop(self) -> bool:
        """Tells all ranks to stop with their next beat; whether there is one that will hear it."""
        self._stop = True
        return self.present() > 0

    def present(self) -> int:
        """How many ranks there are."""
        return sum(self._clock() - when < PRESENT for when, _ in self._heard.values())

    def stuck(self, after: float) -> str | None:
        """The ranks that hold up the others, when nobody came to another meeting for ``after`` seconds.

        Those are the ranks that are no longer heard; if all are heard, those of the ones that came to the
        fewest meetings that do not wait for others in a collective of DeepSpeed's; if all do, or none, all.
        """
        now = self._clock()
        if not self._heard or now - self._progress < after:
            return None
        heard = list(self._heard.values())
        fewest = min(beat.meetings for _, beat in heard)
        silent = [entry for entry in heard if now - entry[0] > after / 2]
        fewer = [entry for entry in heard if entry[1].meetings == fewest]
        behind = silent or [entry for entry in fewer if not entry[1].waits] or fewer
        return "; ".join(_told(beat, now - when) for when, beat in sorted(behind, key=lambda e: e[1].rank))


def _told(beat: Beat, silence: float) -> str:
    when = "before the first step" if beat.step is None else f"at step {beat.step}"
    return f"rank {beat.rank} on {beat.node} {when}, in {beat.place}, last heard of {silence:.0f} s ago"


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
                beat = Beat(self._rank, node, collectives.meetings() + self._alone, self.step, place, waits)
                if ray.get(self._board.beat.remote(beat)):
                    preemption.give()
            self._board.leave.remote(self._rank)
        except RayError:  # the driver is gone, and soon this worker, too
            return

    def mark_progress(self) -> None:
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


class StuckRankWatchdog(WorkerGroupCallback):
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


class Board(HeartbeatMonitor):
    """An actor that carries lines from the workers to the driver, without Ray's prefixes."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def put(self, line: str) -> None:
        self._lines.append(line)

    def take(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines


@contextmanager
def shown_board(every: float = 0.5) -> Iterator[Any]:
    """A `Board` whose lines are printed as they come, as long as the block runs.

    It lives on the driver's node: the loss of another one must not take it along.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(num_cpus=0)(Board)
    board = actor.options(scheduling_strategy=here).remote()
    ended = threading.Event()

    def show() -> None:
        last = False
        while not last:
            last = ended.wait(every)
            for line in ray.get(board.take.remote()):
                print(line, flush=True)

    thread = threading.Thread(target=show, name="board", daemon=True)
    thread.start()
    try:
        yield board
    finally:
        ended.set()
        thread.join(timeout=10)
        ray.kill(board)
