"""Run tasks in worker processes: start them from a fork server, feed them, and end them.

The workers are forked from a server that has imported what they need and opened nothing: what is open, such
as s3fs, does not survive a fork.
"""

import gc
import os
import pickle
import shutil
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, forkserver, get_context, parent_process, resource_tracker
from typing import Any, TypeAlias

from bisieve.errors import BisieveError, CorpusError
from bisieve.io.retry import say_retry

TRIES = 2  # of a task whose worker is killed
_EVERY = 1.0  # seconds between two looks at how far a stage is
_PATIENCE = 5.0  # seconds for a worker that is told to end
_IMPORTED = [
    "bisieve.local.no_pandas",
    "bisieve.pipeline.run",
    "bisieve.local.engine",
]  # in this order, by the server
# One thread a worker.  glibc gives big blocks back at once: faulting them in again slows a scan by a tenth.
_ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

Task: TypeAlias = Callable[[], Any]
Progress: TypeAlias = Callable[[str, int, int], None]


def start_server() -> None:
    """Start the server that workers are forked from; it imports while this process has other things to do."""
    forkserver.set_forkserver_preload(_IMPORTED)
    resource_tracker.ensure_running()  # the server starts it, too, and would undo what holds Ctrl-C back
    with _environment(_ENVIRONMENT), _ctrl_c_later():
        forkserver.ensure_running()


@dataclass
class _Worker:
    process: Any
    connection: Any
    task: int | None = None  # that it is at


class Processes:
    """Up to ``number`` workers, started when there is something to do."""

    def __init__(self, number: int, scratch: str) -> None:
        self._number = number
        self._scratch = scratch
        self._workers: list[_Worker] = []
        self._context: Any = get_context("forkserver")
        start_server()

    def run(
        self, stage: str, tasks: Sequence[Task], use: Callable[[Any], Any], progress: Progress
    ) -> list[Any]:
        """Return what ``use`` makes of what the tasks return, in the order of the tasks.

        The first task that raises ends the run with what it raised.

        Args:
            stage: What the tasks are parts of, for messages.
            tasks: Called in the workers.
            use: Called here with what a task returned, as soon as it has ended.
            progress: Called every second with the stage, the ended tasks and all tasks.

        Raises:
            CorpusError: A task's worker was killed, time and again.
        """
        looked = time.monotonic()
        waiting = deque((number, 1) for number in range(len(tasks)))
        results: dict[int, Any] = {}
        tries: dict[int, int] = {}
        while len(results) < len(tasks):
            self._hand_out(waiting, tasks, tries)
            for worker, number in self._ready():
                try:
                    failed, outcome = worker.connection.recv()
                except (EOFError, OSError):  # it has died
                    self._workers.remove(worker)
                    self._again(stage, worker, number, waiting, tries)
                    continue
                worker.task = None
                if failed:
                    raise outcome
                results[number] = use(outcome)
            if time.monotonic() - looked >= _EVERY:
                looked = time.monotonic()
                progress(stage, len(results), len(tasks))
        return [results[number] for number in range(len(tasks))]

    def _hand_out(self, waiting: deque[Any], tasks: Sequence[Task], tries: dict[int, int]) -> None:
        while waiting:
            worker = next((worker for worker in self._workers if worker.task is None), None)
            if worker is None:
                if len(self._workers) == self._number:
                    return
                worker = self._started()
            worker.task, tries[worker.task] = waiting.popleft()
            with suppress(BrokenPipeError):  # it died while it was idle: its end shows when it is asked
                worker.connection.send_bytes(pickle.dumps(tasks[worker.task], protocol=5))

    def _started(self) -> _Worker:
        mine, theirs = self._context.Pipe()
        process = self._context.Process(
            target=work, args=(theirs, self._scratch, dict(os.environ)), daemon=True
        )
        with _no_main():
            process.start()
        theirs.close()
        worker = _Worker(process, mine)
        self._workers.append(worker)
        return worker

    def _ready(self) -> list[tuple[_Worker, int]]:
        """The workers that have something to say, or have died, with their tasks."""
        busy = {one.connection: (one, one.task) for one in self._workers if one.task is not None}
        return [busy[ready] for ready in connection.wait(list(busy), _EVERY)]

    def _again(
        self, stage: str, worker: _Worker, number: int, waiting: deque[Any], tries: dict[int, int]
    ) -> None:
        worker.process.join(_PATIENCE)
        said = _end_of(worker.process.exitcode)
        error = CorpusError(
            "worker processes that live until they are done", f"one of stage {stage} {said}",
            "give the machine more memory or use a smaller --workers, then run again; the index is as it was",
        )  # fmt: skip
        if tries[number] == TRIES:
            raise error
        say_retry(f"task {number} of {stage}", tries[number] + 1, error)
        waiting.appendleft((number, tries[number] + 1))

    def close(self) -> None:
        """End the workers: those that are at a task clean up what they were writing."""
        for worker in self._workers:
            worker.connection.close()
            if worker.task is not None:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []


def _end_of(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"that ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    return f"that {name} ended" + (", as where memory runs out" if name == "SIGKILL" else "")


@contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    """Have ``more`` in the environment while a process is started; what the user has set stays."""
    added = {name: value for name, value in more.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Hold Ctrl-C back while the block runs; a process that is started in it never hears it.

    A terminal sends it to all of them: the server would show where its imports were interrupted.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _no_main() -> Iterator[None]:
    """Hide the script that runs while a worker starts: it would import it, and no task is defined there."""
    main = sys.modules["__main__"]
    names = [name for name in ("__file__", "__spec__") if name in main.__dict__]
    hidden: dict[str, Any] = {name: main.__dict__.pop(name) for name in names}
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(hidden)


def work(tasks: Any, scratch: str, environment: Mapping[str, str]) -> None:
    """Do tasks until there are no more.

    Args:
        tasks: Where they come from, and where their outcomes go.
        scratch: The run's temporary folder.
        environment: That of the run, which may have changed since the server was started.
    """
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends us
    signal.signal(signal.SIGTERM, _on_sigterm)
    import pyarrow as pa

    pa.set_cpu_count(1)
    gc.freeze()  # what is imported stays
    gc.disable()  # a task makes millions of objects and hardly a cycle: garbage is looked for between tasks
    threading.Thread(target=_end_with_parent, args=(scratch,), daemon=True).start()
    while True:
        try:
            task = tasks.recv_bytes()
        except EOFError:
            return
        tasks.send_bytes(_outcome(task))
        gc.collect()


def _outcome(task: bytes) -> bytes:
    try:
        return pickle.dumps((False, pickle.loads(task)()), protocol=5)
    except Exception as error:
        if not isinstance(error, BisieveError):
            error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        try:
            data = pickle.dumps((True, error), protocol=5)
            pickle.loads(data)
        except Exception:
            data = pickle.dumps((True, RuntimeError(repr(error))), protocol=5)
        return data


def _on_sigterm(number: int, frame: object) -> None:
    sys.exit(128 + number)  # unlike the signal's default it lets files be closed and removed


def _end_with_parent(scratch: str) -> None:
    """A process that is killed can neither end its workers nor remove its files."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)
