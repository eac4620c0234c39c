"""Heartbeats of the ranks, and the board of a run: the actor that receives them, and lines for the terminal.

rank: `Pulse` thread ──beats──▶ `Board` actor ──lines, steps made──▶ `shown_board` in the driver
rank: lines ───────────────────▶   │  └──which rank is stuck──▶ `fault_tolerance.StuckRankWatchdog`
rank: `Pulse` thread ◀──stop───────┘

Ranks wait for one another many times per step (see `collectives`), and a rank that waits or hangs cannot
report. So each rank sends heartbeats from a thread of its own, and one actor receives those of all ranks. Its
process imports this file, which therefore needs neither torch nor Ray Train.
"""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bisieve import console

PRESENT = 10.0  # seconds after its last heartbeat for which a rank counts as present

_COLLECTIVES = ("torch.distributed.", "deepspeed.comm.")  # modules in which ranks wait for one another
_EVERY = 1.0  # most seconds between two heartbeats


@dataclass(frozen=True)
class Beat:
    """One heartbeat of a rank."""

    rank: int
    node: str  # host name
    collectives_entered: int  # collectives entered so far; equal on all ranks that wait for one another
    step: int | None  # the current step; None before the first
    place: str  # where in bisieve's code the training thread is
    waits: bool = False  # the training thread is inside a collective


class Pulse:
    """A thread that sends a rank's heartbeats to the board until `end`.

    The thread that makes it is the training thread, whose place in the code the heartbeats report. If the
    board answers that all ranks must stop, the worker is marked by `fault_tolerance.request_stop`.
    """

    def __init__(self, board: Any, rank: int, stuck_after: float) -> None:
        self.step: int | None = None  # the current step, set by the training loop
        self._alone = 0  # counted by `mark_progress`
        self._board = board
        self._rank = rank
        self._every = min(_EVERY, stuck_after / 10 or _EVERY)
        self._trainer = threading.get_ident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        if board is not None:
            self._thread.start()

    def _beat(self) -> None:
        # Imported here, since the board's process needs neither torch nor Ray Train.
        from ray_train.distributed.collectives import collectives_entered
        from ray_train.distributed.fault_tolerance import request_stop

        node = socket.gethostname()
        try:
            while True:  # the first at once: a signal in the first second finds the rank present
                place, waits = whereabouts(self._trainer)
                entered = collectives_entered() + self._alone
                beat = Beat(self._rank, node, entered, self.step, place, waits)
                if ray.get(self._board.beat.remote(beat)):
                    request_stop()
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


class HeartbeatMonitor:
    """The last heartbeat of every rank, and what follows from all of them.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[int, tuple[float, Beat]] = {}
        self._progress = clock()  # when any rank last entered another collective
        self._stop = False

    def beat(self, beat: Beat) -> bool:
        """Record a heartbeat.

        Returns:
            Whether the rank must stop, as all others must.
        """
        now = self._clock()
        before = self._heard.get(beat.rank)
        if before is None or before[1].collectives_entered != beat.collectives_entered:
            self._progress = now
        self._heard[beat.rank] = (now, beat)
        return self._stop

    def leave(self, rank: int) -> None:
        """Remove a rank that has finished, so that its silence does not count as being stuck."""
        self._heard.pop(rank, None)
        self._progress = self._clock()

    def forget(self) -> None:
        """Remove all ranks, because a new group of workers starts, and count its time from now on."""
        self._heard.clear()
        self._progress = self._clock()

    def stop(self) -> bool:
        """Answer the next heartbeat of every rank with the request to stop.

        Returns:
            Whether any rank is present; else the request is heard only by ranks that start later.
        """
        self._stop = True
        return self.present() > 0

    def step(self) -> int:
        """Return the number of steps that the furthest rank has made; 0 before the first heartbeat."""
        return max((beat.step or 0 for _, beat in self._heard.values()), default=0)

    def present(self) -> int:
        """Return the number of ranks whose last heartbeat is less than `PRESENT` seconds old."""
        return sum(self._clock() - when < PRESENT for when, _ in self._heard.values())

    def stuck(self, after: float) -> str | None:
        """Describe the ranks that hold up the others, if there was no progress for some time.

        They are the first of these groups that is not empty:
        1. the ranks without a heartbeat for ``after / 2`` seconds;
        2. of the ranks that entered the fewest collectives, those that do not wait inside a collective of
           torch or DeepSpeed;
        3. all ranks that entered the fewest collectives.

        Args:
            after: Seconds without progress: in this time no rank has entered another collective.

        Returns:
            A text with the place of each in the code; None if there was progress, or if no rank is known.
        """
        now = self._clock()
        if not self._heard or now - self._progress < after:
            return None
        heard = list(self._heard.values())
        fewest = min(beat.collectives_entered for _, beat in heard)
        silent = [entry for entry in heard if now - entry[0] > after / 2]
        fewer = [entry for entry in heard if entry[1].collectives_entered == fewest]
        behind = silent or [entry for entry in fewer if not entry[1].waits] or fewer
        behind = sorted(behind, key=lambda entry: entry[1].rank)
        return "; ".join(_describe(beat, now - when) for when, beat in behind)


def _describe(beat: Beat, silence: float) -> str:
    when = "before the first step" if beat.step is None else f"at step {beat.step:,}"
    return f"rank {beat.rank} on {beat.node} {when}, in {beat.place}, last heard of {silence:.0f} s ago"


class Line(NamedTuple):
    """A line for the driver's terminal."""

    text: str
    show: Literal["show", "status", "phase"]  # of `console`; a warning, such as a retry, is shown in any case


class Board(HeartbeatMonitor):
    """Actor that also keeps lines for the driver's terminal, as Ray adds a prefix to what a rank prints."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[Line] = []
        self._counted = 0

    def put(self, line: str) -> None:
        """Keep a warning, such as one about a retry, until the driver takes it."""
        self._lines.append(Line(line, "show"))

    def put_status(self, line: str) -> None:
        """Keep a line about what is going on, such as that of a step, until the driver takes it."""
        self._lines.append(Line(line, "status"))

    def put_phase(self, line: str) -> None:
        """Keep a line about what may take long, such as loading a model, until the driver takes it."""
        self._lines.append(Line(line, "phase"))

    def count(self, number: int) -> None:
        """Add ``number`` to the things done, of work that has no steps, such as scored solutions."""
        self._counted += number

    def take(self) -> tuple[list[Line], int]:
        """Hand over what is new to the driver.

        Returns:
            The lines since the last call, and the number of steps made; without steps, of the things done.
        """
        lines, self._lines = self._lines, []
        return lines, self.step() or self._counted


@contextmanager
def shown_board(what: str, total: int, lines: bool = False, every: float = 0.5) -> Iterator[Any]:
    """Yield the handle of a new `Board` and print its lines until the block ends, which ends the actor.

    On a terminal, a bar shows how many are done. The actor runs on the driver's node, so that it survives
    the loss of any other node.

    Args:
        what: What is done, such as "training".
        total: Number of steps or counted things.
        lines: Print how many are done now and then, where there is no terminal.
        every: Seconds between two looks for new lines.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(num_cpus=0)(Board)
    board = actor.options(scheduling_strategy=here).remote()
    ended = threading.Event()

    def show() -> None:
        last = False
        with console.progress(what, total, lines) as shown:
            while not last:
                last = ended.wait(every)
                try:
                    put, done = ray.get(board.take.remote())
                except RayError:  # a signal to the whole process group has ended the actor, too
                    return
                for line in put:
                    getattr(console, line.show)(line.text)
                shown(done)

    thread = threading.Thread(target=show, name="board", daemon=True)
    thread.start()
    try:
        yield board
    finally:
        ended.set()
        thread.join(timeout=10)
        ray.kill(board)
