"""Progress of a run: `Scanned` counts what the scan has read, and `reporter` emits it as events."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bisieve._text import pluralize
from bisieve.events import PROGRESS, EventSink
from bisieve.pipeline.engine import Counter, Engine, Report
from bisieve.scan.chunks import Chunk
from bisieve.shards.listing import Split


@dataclass(frozen=True)
class Scanned:
    """Counters of a scan, updated when a task ends; a task that ran twice may count twice."""

    bytes: Counter  # read from shards, as stored
    records: Counter  # rollouts scanned, usable or rejected
    kept: Counter  # rollouts taken from an older index, usable or rejected
    began: float  # time.monotonic(), in seconds

    @staticmethod
    def on(engine: Engine) -> "Scanned":
        """Return new counters of ``engine``, all 0; rates count from now on."""
        return Scanned(engine.counter(), engine.counter(), engine.counter(), time.monotonic())

    def count_splits(self, splits: Sequence[Split]) -> None:
        """Add the stored bytes of ``splits``, in a task."""
        self.bytes.add(sum(split.stored for split in splits))

    def count_bytes(self, number: int) -> None:
        """Add ``number`` bytes that a task reads by spans."""
        self.bytes.add(number)

    def count_records(self, chunk: Chunk) -> Chunk:
        """Add the rollouts of a scanned ``chunk``, usable or rejected, in a task; return ``chunk``."""
        self.records.add(_rollouts(chunk))
        return chunk

    def count_kept(self, chunk: Chunk) -> Chunk:
        """Add the rollouts of a ``chunk`` taken from an older index, in a task; return ``chunk``."""
        self.kept.add(_rollouts(chunk))
        return chunk

    def numbers(self) -> dict[str, float]:
        """Return rollouts and bytes scanned so far, and both per second; on the driver."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        rollouts, stored = self.records.value, self.bytes.value
        return {
            "rollouts": rollouts,
            "bytes": stored,
            "rollouts_per_s": round(rollouts / seconds, 1),
            "bytes_per_s": round(stored / seconds, 1),
        }


def _rollouts(chunk: Chunk) -> int:
    return sum(chunk.summary.totals.rollouts.values()) + chunk.summary.totals.num_rejected


def reporter(emit: EventSink, scanned: Scanned | None = None) -> Report:
    """Return a function that emits `PROGRESS` events, with the counts of ``scanned`` in the stage "scan"."""
    return partial(_emit_progress, emit, scanned)


def _emit_progress(emit: EventSink, scanned: Scanned | None, stage: str, done: int, tasks: int) -> None:
    numbers = scanned.numbers() if scanned is not None and stage == "scan" else {}
    text = f"{stage}: {done:,} of {tasks:,} tasks"
    if numbers:
        text += f"; {scan_line(numbers)}"
    emit(PROGRESS, text, stage=stage, tasks_done=done, tasks=tasks, **numbers)


def scan_line(numbers: dict[str, float]) -> str:
    """Return the result of `Scanned.numbers` as text for people."""
    return (
        f"{pluralize(round(numbers['rollouts']), 'rollout')} ({numbers['rollouts_per_s']:,.0f}/s), "
        f"{numbers['bytes'] / 1e6:,.1f} MB ({numbers['bytes_per_s'] / 1e6:,.1f} MB/s)"
    )
