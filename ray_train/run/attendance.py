"""Which rank is where: what it takes to name one that is stuck, and to tell all to stop.

Ranks meet many times a step (see `agreement`), and who waits for another cannot say so.  So each beats,
from a thread that goes on while the rank waits or hangs, and one place hears them all.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

PRESENT = 10.0  # seconds since its last beat in which a rank counts as there


@dataclass(frozen=True)
class Beat:
    """A sign of life."""

    rank: int
    node: str
    meetings: int  # that the rank has come to; equal on all ranks that wait for one another
    step: int | None  # that it is at, None before the first
    place: str  # where in the code it stands
    waits: bool = False  # there for other ranks, in a collective


class Attendance:
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
