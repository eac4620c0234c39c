"""What the pipeline asks of an engine: work on the parts of a collection, and a shuffle by number.

A task does the work on one part.  Its functions are given as module-level functions and `functools.partial`s
of them, so that every engine can send them to its workers.
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
    "scan": "records to scored rollouts in sorted runs",
    "spread": "rollouts of each question brought together",
    "count": "rows of the sorted runs by intervals of their keys",
    "rank": "ranks over all sources",
    "write": "ranked files",
    "rejects": "files of rejected records",
}  # as an engine's pages, logs and progress name them


class Shared(Protocol[T_co]):
    """A value that every task can read, sent to each worker at most once."""

    @property
    def value(self) -> T_co: ...


class Counter(Protocol):
    """A number that tasks add to; what a failed task added may count, too."""

    @property
    def value(self) -> int: ...

    def add(self, number: int) -> None: ...


class Parts(ABC, Generic[T]):
    """A collection of values in numbered parts; nothing is computed before `keep`, `collect` or `total`."""

    @abstractmethod
    def map_parts(self, work: "Callable[[int, Iterator[T]], Iterable[U]]") -> "Parts[U]":
        """Return what ``work(number, values)`` yields for each part."""

    @abstractmethod
    def by_number(self, parts: int, stage: str) -> "Parts[Any]":
        """Return pairs ``(number, value)`` so that all of a number from 0 to ``parts`` are in that part."""

    @abstractmethod
    def keep(self, stage: str, about: "Callable[[T], U]") -> "tuple[Parts[T], list[U]]":
        """Compute all values once, on disk where memory is short; return them and ``about`` each of them."""

    @abstractmethod
    def drop(self) -> None:
        """Free what `keep` holds."""

    @abstractmethod
    def collect(self, stage: str) -> list[T]:
        """Return all values, in the order of the parts."""

    def total(self, stage: str) -> T:
        """Return the sum of all values; there must be one."""
        return reduce(operator.add, self.collect(stage))

    def map(self, work: "Callable[[T], U]") -> "Parts[U]":
        """Return ``work(value)`` for each value."""
        return self.map_parts(partial(_mapped, work))

    def flat_map(self, work: "Callable[[T], Iterable[U]]") -> "Parts[U]":
        """Return all that ``work(value)`` yields, for each value."""
        return self.map_parts(partial(_flat_mapped, work))


Report: TypeAlias = Callable[[str, int, int], None]  # of a stage: its name, ended tasks, all tasks


class Engine(ABC):
    """Where tasks run."""

    cores: int  # that work is divided for; more than there are where starting a task costs nothing
    scratch: str | None = (
        None  # folder for what a task spills; None: it is the engine's environment that says
    )

    @abstractmethod
    def spread(self, values: Sequence[T]) -> Parts[T]:
        """Return ``values`` as parts of one value each."""

    @abstractmethod
    def union(self, collections: "Sequence[Parts[T]]") -> Parts[T]:
        """Return the parts of all ``collections``, one behind the other."""

    @abstractmethod
    def share(self, value: T) -> Shared[T]:
        """Make ``value`` readable in every task."""

    @abstractmethod
    def counter(self) -> Counter:
        """Return a new counter."""

    @abstractmethod
    def watched(self, report: "Report") -> AbstractContextManager[None]:
        """Report every second which stage is at work and how far it is, as long as the block runs."""


OpenEngine: TypeAlias = Callable[[int], AbstractContextManager[Engine]]  # for so many bytes to work on
BYTES_A_ROLLOUT = 1000  # of an index, while it is ranked


def _mapped(work: Callable[[T], U], number: int, values: Iterator[T]) -> Iterator[U]:
    return map(work, values)


def _flat_mapped(work: Callable[[T], Iterable[U]], number: int, values: Iterator[T]) -> Iterator[U]:
    for value in values:
        yield from work(value)
