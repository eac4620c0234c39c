"""The pipeline's engine on one machine: tasks run in worker processes, and results are stored in files.

No Java and no pyspark is needed.  Values are pickled one by one, so memory need not hold a whole part.

values ──▶ lazy sources (`LocalParts.sources`) ──keep──▶ a file per part
pairs  ──by_number──▶ a file per part, and offsets by number ──▶ sources that read their pieces of all files
"""

import os
import pickle
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, count
from typing import Any, Generic, TypeAlias, TypeVar, cast

from bisieve.errors import DiskError
from bisieve.io.errors import disk_errors
from bisieve.local.processes import REPORT_EVERY, Processes, Task, temporary_folder, usable_workers
from bisieve.pipeline.engine import Engine, Parts, Report

ELSEWHERE = "set TMPDIR to a folder on another disk"
# `Engine.cores` per process.  It makes 4 times as many tasks as on Spark, so that all processes finish at
# about the same time.
TASKS_A_PROCESS = 4
SMALL = 16 * 2**20  # bytes to process up to which starting processes takes longer than the work

T = TypeVar("T")
U = TypeVar("U")
Source: TypeAlias = Callable[[], Iterator[T]]  # yields the values of a part, in any process
Piece: TypeAlias = tuple[str, list[tuple[int, int]]]  # a file, and (offset, length) of pickled values in it


@contextmanager
def local_engine(size: int, workers: int | None = None) -> Iterator["LocalEngine"]:
    """Start an engine; at the end of the block its processes end and its files are removed.

    Args:
        size: Bytes to process.  Up to `SMALL`, tasks run in this process.
        workers: Number of processes; by default `usable_workers`.  With 1, tasks run in this process.

    Raises:
        DiskError: The temporary folder (``TMPDIR``) is missing, cannot be written, or is full.
    """
    scratch = _scratch_folder()
    number = workers or usable_workers()
    engine = LocalEngine(number, scratch, in_this_process=size <= SMALL or number == 1)
    try:
        yield engine
    finally:
        engine.close()
        shutil.rmtree(scratch, ignore_errors=True)


def _scratch_folder() -> str:
    folder = temporary_folder()
    try:
        with disk_errors(folder, ELSEWHERE):
            return tempfile.mkdtemp(prefix="bisieve-", dir=folder)
    except FileNotFoundError as error:
        raise DiskError(f"a folder for temporary files at {folder}", "nothing", ELSEWHERE) from error


class LocalEngine(Engine):
    """Engine whose tasks run in worker processes, or one after the other in this process.

    Args:
        processes: Number of worker processes.
        scratch: Folder for all files of the engine; the caller removes it.
        in_this_process: Start no processes.
    """

    def __init__(self, processes: int, scratch: str, in_this_process: bool) -> None:
        self.cores = TASKS_A_PROCESS * processes
        self.scratch = self._folder = scratch
        self._names = count()
        self._counted: dict[int, int] = defaultdict(int)
        self._report: Report | None = None
        self._processes = None if in_this_process else Processes(processes, scratch)

    def close(self) -> None:
        """End the processes, and drop shared values from this process's cache."""
        if self._processes is not None:
            self._processes.close()
        _loaded.cache_clear()

    def spread(self, values: Sequence[T]) -> Parts[T]:
        """Return a collection with one part for each of ``values``; a task gets its value pickled."""
        return LocalParts(self, [partial(iter, (value,)) for value in values])

    def union(self, collections: Sequence[Parts[T]]) -> Parts[T]:
        """Return a collection of the parts of all ``collections``, in order."""
        sources = [one.sources for one in cast("Sequence[LocalParts[T]]", collections)]
        return LocalParts(self, list(chain.from_iterable(sources)))

    def share(self, value: T) -> "LocalShared[T]":
        """Write ``value`` to a file, which each process reads at most once."""
        path = self.new_file()
        with disk_errors(self._folder, ELSEWHERE), open(path, "wb") as file:
            pickle.dump(value, file, protocol=5)
        return LocalShared(path)

    def counter(self) -> "LocalCounter":
        """Return a new counter with the value 0."""
        return LocalCounter(next(self._names), self._counted)

    @contextmanager
    def watched(self, report: Report) -> Iterator[None]:
        """Call ``report`` about every second while a stage of several tasks runs, until the block ends."""
        self._report = report
        try:
            yield
        finally:
            self._report = None

    def new_file(self) -> str:
        """Return a new path in the engine's folder; the file is not created."""
        return os.path.join(self._folder, str(next(self._names)))

    def run(self, stage: str, tasks: Sequence[Task]) -> list[Any]:
        """Run tasks and return their results, in the order of the tasks.

        Args:
            stage: One of `STAGES`, for progress and messages.
            tasks: Picklable functions.  A single one runs in this process.

        Raises:
            CorpusError: The worker process of a task died `processes.TRIES` times.
        """
        tasks = [partial(_counted, task, self._folder) for task in tasks]
        if self._processes is None or len(tasks) == 1:
            return self._run_here(stage, tasks)
        return self._processes.run(stage, tasks, self._result, self._progress)

    def _run_here(self, stage: str, tasks: Sequence[Task]) -> list[Any]:
        results: list[Any] = []
        due = time.monotonic() + REPORT_EVERY
        for task in tasks:
            results.append(self._result(task()))
            if time.monotonic() >= due:
                self._progress(stage, len(results), len(tasks))
                due = time.monotonic() + REPORT_EVERY
        return results

    def _result(self, outcome: tuple[Any, dict[int, int]]) -> Any:
        """Add a task's counts to the counters, and return its result."""
        result, added = outcome
        for counter, number in added.items():
            self._counted[counter] += number
        return result

    def _progress(self, stage: str, done: int, tasks: int) -> None:
        if self._report is not None:
            self._report(stage, done, tasks)


class LocalParts(Parts[T]):
    """Collection of lazy parts: each has a source, a function that yields its values.

    Args:
        engine: Runs the tasks.
        sources: One for each part.
        files: Files that the sources read; `drop` removes them.
    """

    def __init__(
        self, engine: LocalEngine, sources: "Sequence[Source[T]]", files: Sequence[str] = ()
    ) -> None:
        self.sources = sources
        self._engine = engine
        self._files = files

    def map_parts(self, work: Callable[[int, Iterator[T]], Iterable[U]]) -> Parts[U]:
        """Return a lazy collection of what ``work(number, values)`` yields for each part."""
        sources = [partial(_worked, work, number, source) for number, source in enumerate(self.sources)]
        return LocalParts(self._engine, sources)

    def by_number(self, parts: int, stage: str) -> Parts[Any]:
        """Write all pairs to files, one a part, and return a collection that reads them by number.

        Unlike on Spark, the values are computed at once.
        """
        files = [self._engine.new_file() for _ in self.sources]
        sources: Any = self.sources
        tasks = [partial(_scatter, *pair) for pair in zip(sources, files, strict=True)]
        pieces: list[list[Piece]] = [[] for _ in range(parts)]
        for path, found in zip(files, self._engine.run(stage, tasks), strict=True):
            for number, places in found.items():
                pieces[number].append((path, places))
        return LocalParts(self._engine, [partial(_gathered, mine) for mine in pieces], files)

    def keep(self, stage: str, about: Callable[[T], U]) -> tuple[Parts[T], list[U]]:
        """Write the values to a file a part; return a collection that reads them, and ``about`` of each."""
        files = [self._engine.new_file() for _ in self.sources]
        tasks = [
            partial(_kept, source, about, path) for source, path in zip(self.sources, files, strict=True)
        ]
        results = self._engine.run(stage, tasks)
        return LocalParts(self._engine, [partial(_read, path) for path in files], files), list(
            chain.from_iterable(results)
        )

    def drop(self) -> None:
        """Remove the files of the collection."""
        for path in self._files:
            os.unlink(path)

    def collect(self, stage: str) -> list[T]:
        """Compute all values and return them, in the order of the parts."""
        tasks = [partial(_listed, source) for source in self.sources]
        return list(chain.from_iterable(self._engine.run(stage, tasks)))


@dataclass(frozen=True)
class LocalShared(Generic[T]):
    """Handle of a shared value in a file."""

    path: str

    @property
    def value(self) -> T:
        """Return the value; each process reads the file once."""
        return _loaded(self.path)  # type: ignore[no-any-return]


class LocalCounter:
    """Counter whose additions are collected in the task's process and sent back with the task's result."""

    def __init__(self, number: int, counted: dict[int, int] | None = None) -> None:
        self._number = number
        self._total = counted

    def __reduce__(self) -> tuple[type["LocalCounter"], tuple[int]]:
        """Pickle without the total, which only the driver has; a task can only add."""
        return LocalCounter, (self._number,)

    @property
    def value(self) -> int:
        """Return the sum of what finished tasks have added; in a task 0."""
        return 0 if self._total is None else self._total[self._number]

    def add(self, number: int) -> None:
        """Add ``number``, in a task."""
        _added[self._number] += number


# ---- Functions that run in tasks, and their state ----------------------------------------------------------

_added: dict[int, int] = defaultdict(int)  # by the counter's number, what the current task has added


def _counted(task: Task, scratch: str) -> tuple[Any, dict[int, int]]:
    _added.clear()
    with disk_errors(scratch, ELSEWHERE):
        result = task()
    return result, dict(_added)


@cache
def _loaded(path: str) -> Any:
    with open(path, "rb") as file:
        return pickle.load(file)


def _worked(work: Callable[[int, Iterator[T]], Iterable[U]], number: int, source: "Source[T]") -> Iterator[U]:
    return iter(work(number, source()))


def _listed(source: "Source[T]") -> list[T]:
    return list(source())


def _kept(source: "Source[T]", about: Callable[[T], U], path: str) -> list[U]:
    results = []
    with open(path, "wb") as file:
        for value in source():
            pickle.dump(value, file, protocol=5)
            results.append(about(value))
    return results


def _read(path: str) -> Iterator[Any]:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while file.tell() < size:
            yield pickle.load(file)


def _scatter(source: "Source[tuple[int, Any]]", path: str) -> dict[int, list[tuple[int, int]]]:
    places: dict[int, list[tuple[int, int]]] = defaultdict(list)
    with open(path, "wb") as file:
        for number, value in source():
            begin = file.tell()
            pickle.dump((number, value), file, protocol=5)
            places[number].append((begin, file.tell() - begin))
    return dict(places)


def _gathered(pieces: Sequence[Piece]) -> Iterator[tuple[int, Any]]:
    for path, places in pieces:
        with open(path, "rb") as file:
            for begin, length in places:
                file.seek(begin)
                yield pickle.loads(file.read(length))
