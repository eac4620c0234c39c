"""How far a run is: Spark's status tracker for tasks, two accumulators for what the scan has read."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pyspark import Accumulator, SparkContext, StatusTracker

from bisieve.events import PROGRESS, Tell
from bisieve.scan.chunks import Chunk
from bisieve.shards import Split
from bisieve.spark.stages import STAGES, job_group
from bisieve.spark.task_retries import TaskRetries

_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class Scanned:
    """What the scan's tasks have read: known when a task ends; a task that ran twice counts twice."""

    bytes: Accumulator[int]
    records: Accumulator[int]
    kept: Accumulator[int]
    began: float  # by time.monotonic()

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


@contextmanager
def watched(context: SparkContext, tell: Tell, every: float = _EVERY) -> Iterator[Scanned]:
    """Tells every so many seconds which stage is at work and how far it is, as long as the block runs.

    What Spark tries again is said, too.
    """
    read, records, kept = (context.accumulator(0) for _ in range(3))
    scanned = Scanned(read, records, kept, time.monotonic())
    ended = threading.Event()

    def follow() -> None:
        tracker, retries = context.statusTracker(), TaskRetries(context)
        # A tracker whose Spark is gone raises what it likes; the run itself says what went wrong.
        with suppress(Exception):
            while not ended.wait(every):
                retries.look()
                if (at_work := tasks_at_work(tracker)) is not None:
                    _tell_progress(tell, scanned, *at_work)
            retries.look()  # a short job has ended since the last time

    thread = threading.Thread(target=follow, name="bisieve-progress", daemon=True)
    thread.start()
    try:
        yield scanned
    finally:
        ended.set()
        thread.join(timeout=5)


def tasks_at_work(tracker: StatusTracker) -> tuple[str, int, int] | None:
    """The stage whose job runs, its ended tasks, and all of those that Spark has begun to plan."""
    active = set(tracker.getActiveJobsIds())
    for stage in STAGES:
        for job in active.intersection(tracker.getJobIdsForGroup(job_group(stage))):
            if (info := tracker.getJobInfo(job)) is None:  # it has just ended
                continue
            parts = [part for number in info.stageIds if (part := tracker.getStageInfo(number))]
            # What an earlier job has done already is skipped: it never gets a task.
            begun = [part for part in parts if part.numActiveTasks or part.numCompletedTasks]
            if not begun:
                continue
            return stage, sum(part.numCompletedTasks for part in begun), sum(part.numTasks for part in begun)
    return None


def _tell_progress(tell: Tell, scanned: Scanned, stage: str, done: int, tasks: int) -> None:
    numbers = scanned.numbers() if stage == "scan" else {}
    text = f"{stage}: {done} of {tasks} tasks"
    if numbers:
        text += f"; {scan_line(numbers)}"
    tell(PROGRESS, text, stage=stage, tasks_done=done, tasks=tasks, **numbers)


def scan_line(numbers: dict[str, float]) -> str:
    """What `Scanned.numbers` says, for people."""
    return (
        f"{numbers['rollouts']:,.0f} rollouts ({numbers['rollouts_per_s']:,.0f}/s), "
        f"{numbers['bytes'] / 1e6:,.1f} MB ({numbers['bytes_per_s'] / 1e6:,.1f} MB/s)"
    )
