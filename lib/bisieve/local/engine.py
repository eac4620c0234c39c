"""The pipeline's engine on one machine: tasks run in processes, and what they keep and shuffle is in files.

No Java and no pyspark is needed.  Memory is bounded as on Spark: a part is written value by value.
"""

import os
import pickle
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, count
from typing import Any, Generic, TypeAlias, TypeVar

from bisieve.errors import DiskError
from bisieve.io.errors import disk_errors
from bisieve.local.processes import Processes, Task
from bisieve.local.resources import temporary_folder, usable_workers
from bisieve.pipeline.engine import Engine, Parts, Report

ELSEWHERE = "set TMPDIR to a folder on another disk"
TASKS_A_PROCESS = 4  # times those of Spark, so that all processes end at about one time
SMALL = 16 * 2**20  # bytes of shards below which starting processes takes longer than the work

T = TypeVar("T")
U = TypeVar("U")
Source: TypeAlias = Callable[[], Iterator[T]]  # of the values of a part, in whatever process
Piece: TypeAlias = tuple[str, list[tuple[int, int]]]  # a file, and the offsets and lengths of values in it


@contextmanager
def local_engine(size: int, workers: int | None = None) -> Iterator["LocalEngine"]:
    """An engine for ``size`` bytes of shards; it ends, and its files go, with the block.

    Args:
        size: Small ones are scored in this process.
        workers: Processes; by default as many as there are cores and memory for.

    Raises:
        DiskError: The folder of temporary files, which ``TMPDIR`` names, cannot be written, or is full.
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
    """Tasks run in so many ``processes``, or one after the other in this one."""

    def __init__(self, processes: int, scratch: str, in_this_process: bool) -> None:
        self.cores = TASKS_A_PROCESS * processes
        self.scratch = self._folder = scratch
        self._names = count()
        self._counted: dict[int, int] = defaultdict(int)
        self._report: Report | None = None
        self._processes = None if in_this_process else Processes(processes, scratch)

    def close(self) -> None:
        """End the processes, and forget what was shared."""
        if self._processes is not None:
            self._processes.close()
        _loaded.cache_clear()

    def spread(self, values: Sequence[T]) -> Parts[T]:
        return LocalParts(self, [partial(iter, (value,)) for value in values])

    def union(self, collections: Sequence[Parts[T]]) -> Parts[T]:
        sources = [one.sources for one in collections if isinstance(one, LocalParts)]
        return LocalParts(self, list(chain.from_iterable(sources)))

    def share(self, value: T) -> "LocalShared[T]":
        path = self.new_file()
        with disk_errors(self._folder, ELSEWHERE), open(path, "wb") as file:
            pickle.dump(value, file, protocol=5)
        return LocalShared(path)

    def counter(self) -> "LocalCounter":
        return LocalCounter(next(self._names), self._counted)

    @contextmanager
    def watched(self, report: Report) -> Iterator[None]:
        self._report = report
        try:
            yield
        finally:
            self._report = None

    def new_file(self) -> str:
        """Return the path of a file that is not there yet."""
        return os.path.join(self._folder, str(next(self._names)))

    def run(self, stage: str, tasks: Sequence[Task]) -> list[Any]:
        """Return what the tasks return, in their order."""
        tasks = [partial(_counted, task, self._folder) for task in tasks]
        if self._processes is None or len(tasks) == 1:
            return [self._result(task()) for task in tasks]
        return self._processes.run(stage, tasks, self._result, self._progress)

    def _result(self, outcome: tuple[Any, dict[int, int]]) -> Any:
        """Take the counts out of what a task returned."""
        result, added = outcome
        for counter, number in added.items():
            self._counted[counter] += number
        return result

    def _progress(self, stage: str, done: int, tasks: int) -> None:
        if self._report is not None:
            self._report(stage, done, tasks)


class LocalParts(Parts[T]):
    """A source a part."""

    def __init__(
        self, engine: LocalEngine, sources: "Sequence[Source[T]]", files: Sequence[str] = ()
    ) -> None:
        self.sources = sources
        self._engine = engine
        self._files = files

    def map_parts(self, work: Callable[[int, Iterator[T]], Iterable[U]]) -> Parts[U]:
        sources = [partial(_worked, work, number, source) for number, source in enumerate(self.sources)]
        return LocalParts(self._engine, sources)

    def by_number(self, parts: int, stage: str) -> Parts[Any]:
        files = [self._engine.new_file() for _ in self.sources]
        sources: Any = self.sources
        tasks = [partial(_scatter, *pair) for pair in zip(sources, files, strict=True)]
        pieces: list[list[Piece]] = [[] for _ in range(parts)]
        for path, found in zip(files, self._engine.run(stage, tasks), strict=True):
            for number, places in found.items():
                pieces[number].append((path, places))
        return LocalParts(self._engine, [partial(_gathered, mine) for mine in pieces], files)

    def keep(self, stage: str, about: Callable[[T], U]) -> tuple[Parts[T], list[U]]:
        files = [self._engine.new_file() for _ in self.sources]
        tasks = [
            partial(_kept, source, about, path) for source, path in zip(self.sources, files, strict=True)
        ]
        told = self._engine.run(stage, tasks)
        return LocalParts(self._engine, [partial(_read, path) for path in files], files), list(
            chain.from_iterable(told)
        )

    def drop(self) -> None:
        for path in self._files:
            os.unlink(path)

    def collect(self, stage: str) -> list[T]:
        tasks = [partial(_listed, source) for source in self.sources]
        return list(chain.from_iterable(self._engine.run(stage, tasks)))


@dataclass(frozen=True)
class LocalShared(Generic[T]):
    """A value in a file, which each process reads once."""

    path: str

    @property
    def value(self) -> T:
        return _loaded(self.path)  # type: ignore[no-any-return]


class LocalCounter:
    """Adds up in the task's process what is sent back with the task's result."""

    def __init__(self, number: int, counted: dict[int, int] | None = None) -> None:
        self._number = number
        self._total = counted

    def __reduce__(self) -> tuple[type["LocalCounter"], tuple[int]]:
        """In a task only adding is possible."""
        return LocalCounter, (self._number,)

    @property
    def value(self) -> int:
        return 0 if self._total is None else self._total[self._number]

    def add(self, number: int) -> None:
        _added[self._number] += number


# ---- In a task ---------------------------------------------------------------------------------------------

_added: dict[int, int] = defaultdict(int)  # by counter, since the task began


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
    told = []
    with open(path, "wb") as file:
        for value in source():
            pickle.dump(value, file, protocol=5)
            told.append(about(value))
    return told


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
