"""The interface of an engine: `Engine` makes collections, and `Parts` is a collection in numbered parts.

A part is what Spark calls a partition; a task computes one part on a worker.  Functions that run in tasks are
module-level functions or `functools.partial`s of them, so that every engine can pickle them for its workers.

Progress: `Scanned` counts on counters of an engine what a scan has read, and `reporter` emits it as events.
"""

import operator
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from bisieve._text import pluralize
from bisieve.events import PROGRESS, EventSink

if TYPE_CHECKING:  # engines are chosen before the scan is imported
    from bisieve.scan.chunks import Chunk
    from bisieve.shards.listing import Split

T = TypeVar("T")
U = TypeVar("U")
T_co = TypeVar("T_co", covariant=True)

STAGES = {
    "scan": "score records into sorted runs",
    "group": "rank inside questions or strata",
    "count": "count rows by key range",
    "rank": "rank over all sources",
    "write": "write ranked files",
    "select": "rank, and keep the best",
    "rejects": "write files of rejected records",
}  # name → description, as shown in the engine's web pages, logs and progress


class Shared(Protocol[T_co]):
    """A read-only value for all tasks, sent to each worker at most once (in Spark: a broadcast)."""

    @property
    def value(self) -> T_co:
        """The shared value."""
        ...


class Counter(Protocol):
    """A counter that tasks add to and the driver reads (in Spark: an accumulator).

    It is for progress and logs only: what a failed task has added may be counted, too.
    """

    @property
    def value(self) -> int:
        """The sum of what finished tasks have added; readable on the driver."""
        ...

    def add(self, number: int) -> None:
        """Add ``number``, in a task."""
        ...


class Parts(ABC, Generic[T]):
    """A collection of values in numbered parts, like a Spark RDD and its partitions.

    `keep`, `collect` and `total` start tasks.  Other methods may be lazy: `by_number` is lazy on Spark, but
    computes at once on the local engine.
    """

    @abstractmethod
    def map_parts(self, work: Callable[[int, Iterator[T]], Iterable[U]]) -> "Parts[U]":
        """Return a collection with as many parts, each holding what ``work(number, values)`` yields.

        Args:
            work: Called in a task, once a part, with the part's number (from 0) and its values.
        """

    @abstractmethod
    def by_number(self, parts: int, stage: str) -> "Parts[Any]":
        """Shuffle pairs ``(number, value)`` so that part i of the result holds all pairs with number i.

        Args:
            parts: Number of parts of the result; numbers are from 0 to ``parts - 1``.
            stage: One of `STAGES`, for progress.
        """

    @abstractmethod
    def keep(self, stage: str, about: Callable[[T], U]) -> "tuple[Parts[T], list[U]]":
        """Compute all values once and store them, so that later reads do not compute them again.

        Args:
            stage: One of `STAGES`, for progress.
            about: Called in a task with each value.

        Returns:
            The stored collection, in memory or on disk as the engine decides, and on the driver the list of
            ``about(value)`` in the order of the values.
        """

    @abstractmethod
    def drop(self) -> None:
        """Free the memory and files that `keep` uses; do not read the collection afterwards."""

    @abstractmethod
    def collect(self, stage: str) -> list[T]:
        """Compute all values and return them on the driver, in the order of the parts."""

    def total(self, stage: str) -> T:
        """Return the sum of all values by ``+``; the collection must have at least one value."""
        return reduce(operator.add, self.collect(stage))

    def map(self, work: Callable[[T], U]) -> "Parts[U]":
        """Return a collection of ``work(value)`` for each value, in the same parts."""
        return self.map_parts(partial(_mapped, work))

    def flat_map(self, work: Callable[[T], Iterable[U]]) -> "Parts[U]":
        """Return a collection of everything that ``work(value)`` yields for each value, in the same parts."""
        return self.map_parts(partial(_flat_mapped, work))


def _mapped(work: Callable[[T], U], number: int, values: Iterator[T]) -> Iterator[U]:
    return map(work, values)


def _flat_mapped(work: Callable[[T], Iterable[U]], number: int, values: Iterator[T]) -> Iterator[U]:
    for value in values:
        yield from work(value)


Report: TypeAlias = Callable[[str, int, int], None]  # gets a stage's name, its finished tasks, all its tasks


class Engine(ABC):
    """Base of the engines, which run tasks on workers: processes of this machine, or a Spark cluster."""

    cores: int  # parallelism that work is divided for; above the real one where starting a task is cheap
    # Folder for files that a task spills; None: SPARK_LOCAL_DIRS, or the system's temporary folder.
    scratch: str | None = None

    @abstractmethod
    def spread(self, values: Sequence[T]) -> Parts[T]:
        """Return a collection with one part for each of ``values``."""

    @abstractmethod
    def union(self, collections: Sequence[Parts[T]]) -> Parts[T]:
        """Return a collection of the parts of all ``collections``, in order."""

    @abstractmethod
    def share(self, value: T) -> Shared[T]:
        """Return a handle by which every task can read ``value``."""

    @abstractmethod
    def counter(self) -> Counter:
        """Return a new counter with the value 0."""

    @abstractmethod
    def watched(self, report: Report) -> AbstractContextManager[None]:
        """Return a context manager that calls ``report`` about every second with the progress of the stage.

        Nothing is reported while no stage runs.
        """


# Opens an engine for a number of bytes to process: for few bytes the local engine starts no processes.
OpenEngine: TypeAlias = Callable[[int], AbstractContextManager[Engine]]
BYTES_A_ROLLOUT = 1000  # estimate of the bytes to process for each rollout of an existing index


# ---- Progress ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scanned:
    """Counters of a scan, updated when a task ends; a task that was run twice may be counted twice."""

    bytes: Counter  # read from shards, as stored
    records: Counter  # rollouts scanned, usable or rejected
    kept: Counter  # rollouts taken from an older index, usable or rejected
    began: float  # time.monotonic(), in seconds

    @staticmethod
    def on(engine: Engine) -> "Scanned":
        """Return new counters of ``engine``, all 0; rates count from now on."""
        return Scanned(engine.counter(), engine.counter(), engine.counter(), time.monotonic())

    def count_splits(self, splits: "Sequence[Split]") -> None:
        """Add the stored bytes of ``splits``, in a task."""
        self.bytes.add(sum(split.stored for split in splits))

    def count_bytes(self, number: int) -> None:
        """Add ``number`` bytes that a task reads by spans."""
        self.bytes.add(number)

    def count_records(self, chunk: "Chunk") -> "Chunk":
        """Add the rollouts of a scanned ``chunk``, usable or rejected, in a task; return ``chunk``."""
        self.records.add(_rollouts(chunk))
        return chunk

    def count_kept(self, chunk: "Chunk") -> "Chunk":
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


def _rollouts(chunk: "Chunk") -> int:
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
