"""How far a run is: counters of what the scan has read, and the line that tells of them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bisieve.events import PROGRESS, EventSink
from bisieve.pipeline.engine import Counter, Engine, Report
from bisieve.scan.chunks import Chunk
from bisieve.shards.listing import Split


@dataclass(frozen=True)
class Scanned:
    """What the scan's tasks have read: known when a task ends; a task that ran twice may count twice."""

    bytes: Counter
    records: Counter
    kept: Counter
    began: float  # by time.monotonic()

    @staticmethod
    def on(engine: Engine) -> "Scanned":
        """Return counters of ``engine``, all 0, from now on."""
        return Scanned(engine.counter(), engine.counter(), engine.counter(), time.monotonic())

    def count_splits(self, splits: Sequence[Split]) -> None:
        """In a task: counts the bytes of what it reads."""
        self.bytes.add(sum(split.stored for split in splits))

    def count_bytes(self, number: int) -> None:
        """In a task: counts bytes that it reads beside its splits."""
        self.bytes.add(number)

    def count_records(self, chunk: Chunk) -> Chunk:
        """In a task: counts the rollouts of ``chunk``, the rejected ones too, and hands it on."""
        self.records.add(_rollouts(chunk))
        return chunk

    def count_kept(self, chunk: Chunk) -> Chunk:
        """As `count_records`, of a chunk that an older index gave."""
        self.kept.add(_rollouts(chunk))
        return chunk

    def numbers(self) -> dict[str, float]:
        """On the driver: rollouts and bytes up to now, and of each how many a second."""
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


def reporter(emit: EventSink, scanned: Scanned) -> Report:
    """Return what tells, as the event ``progress``, how far a stage is."""
    return partial(_tell_progress, emit, scanned)


def _tell_progress(emit: EventSink, scanned: Scanned, stage: str, done: int, tasks: int) -> None:
    numbers = scanned.numbers() if stage == "scan" else {}
    text = f"{stage}: {done} of {tasks} tasks"
    if numbers:
        text += f"; {scan_line(numbers)}"
    emit(PROGRESS, text, stage=stage, tasks_done=done, tasks=tasks, **numbers)


def scan_line(numbers: dict[str, float]) -> str:
    """What `Scanned.numbers` says, for people."""
    return (
        f"{numbers['rollouts']:,.0f} rollouts ({numbers['rollouts_per_s']:,.0f}/s), "
        f"{numbers['bytes'] / 1e6:,.1f} MB ({numbers['bytes_per_s'] / 1e6:,.1f} MB/s)"
    )
