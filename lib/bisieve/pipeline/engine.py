"""The interface of an engine: `Engine` makes collections, and `Parts` is a collection in numbered parts.

A part is what Spark calls a partition; a task computes one part on a worker.  Functions that run in tasks are
module-level functions or `functools.partial`s of them, so that every engine can pickle them for its workers.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial, reduce
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

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

    `keep`, `collect` and `total` start tasks.  Other methods may be lazy; `by_number` is on Spark, and
    computes at once on the local engine.
    """

    @abstractmethod
    def map_parts(self, work: "Callable[[int, Iterator[T]], Iterable[U]]") -> "Parts[U]":
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
    def keep(self, stage: str, about: "Callable[[T], U]") -> "tuple[Parts[T], list[U]]":
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

    def map(self, work: "Callable[[T], U]") -> "Parts[U]":
        """Return a collection of ``work(value)`` for each value, in the same parts."""
        return self.map_parts(partial(_mapped, work))

    def flat_map(self, work: "Callable[[T], Iterable[U]]") -> "Parts[U]":
        """Return a collection of everything that ``work(value)`` yields for each value, in the same parts."""
        return self.map_parts(partial(_flat_mapped, work))


Report: TypeAlias = Callable[[str, int, int], None]  # gets a stage's name, its finished tasks, all its tasks


class Engine(ABC):
    """Base of the engines, which run tasks on workers: processes of this machine, or a Spark cluster."""

    cores: int  # parallelism that work is divided for; above the real one where starting a task is cheap
    scratch: str | None = (
        None  # folder for files that a task spills; None: SPARK_LOCAL_DIRS, or the system's temporary folder
    )

    @abstractmethod
    def spread(self, values: Sequence[T]) -> Parts[T]:
        """Return a collection with one part for each of ``values``."""

    @abstractmethod
    def union(self, collections: "Sequence[Parts[T]]") -> Parts[T]:
        """Return a collection of the parts of all ``collections``, in order."""

    @abstractmethod
    def share(self, value: T) -> Shared[T]:
        """Return a handle by which every task can read ``value``."""

    @abstractmethod
    def counter(self) -> Counter:
        """Return a new counter with the value 0."""

    @abstractmethod
    def watched(self, report: "Report") -> AbstractContextManager[None]:
        """Return a context manager that calls ``report`` about every second with the progress of the stage.

        Nothing is reported while no stage runs.
        """


# Opens an engine for a number of bytes to process: for few bytes the local engine starts no processes.
OpenEngine: TypeAlias = Callable[[int], AbstractContextManager[Engine]]
BYTES_A_ROLLOUT = 1000  # estimate, for a rollout of an existing index that is ranked


def _mapped(work: Callable[[T], U], number: int, values: Iterator[T]) -> Iterator[U]:
    return map(work, values)


def _flat_mapped(work: Callable[[T], Iterable[U]], number: int, values: Iterator[T]) -> Iterator[U]:
    for value in values:
        yield from work(value)
