"""Run tasks in worker processes: how many this machine can have, start them, send them tasks, and end them.

usable_workers: cores and memory, within the limits of a container
start_server ──▶ fork server: imports once what workers need
Processes.run ──pickled task──▶ `work` (in a worker) ──pickled outcome──▶ results

The fork server opens no files and no connections, since those (such as s3fs's) do not work after a fork.
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
from bisieve.io import disk
from bisieve.io.disk import choose_socket_folder
from bisieve.io.retry import say_retry

WORKER_BYTES = 600 * 10**6  # most memory of a worker process
_CGROUP = "/sys/fs/cgroup"
TRIES = 2  # how often a task is tried if its worker dies
REPORT_EVERY = 1.0  # seconds between two progress reports
_PATIENCE = 5.0  # seconds that a worker has to end before it is killed
_IMPORTED = [
    "bisieve.local.no_pandas",
    "bisieve.pipeline.run",
    "bisieve.local.engine",
]  # imported by the fork server, in this order
# One thread a worker.  By default glibc returns large blocks to the system at once, and the page faults of
# allocating them again slow a scan by a tenth.
_ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

Task: TypeAlias = Callable[[], Any]
Progress: TypeAlias = Callable[[str, int, int], None]


def usable_workers() -> int:
    """Return the number of worker processes for which there are cores and memory; at least 1."""
    return max(1, min(usable_cores(), usable_memory() // WORKER_BYTES))


def usable_cores() -> int:
    """Return how many cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    match _limit("cpu.max"):
        case [quota, period] if quota != "max":
            return max(1, min(cores, -(-int(quota) // int(period))))
    return cores


def usable_memory() -> int:
    """Return how many bytes of memory this process and its children may hold."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    match _limit("memory.max"):
        case [most] if most != "max":
            return min(memory, int(most))
    return memory


def temporary_folder() -> str:
    """Return ``TMPDIR``, or else Python's default folder.

    `tempfile.gettempdir` alone would silently use another folder if that of ``TMPDIR`` cannot be written.

    Raises:
        DiskError: ``TMPDIR`` is not set, and none of the places that Python tries is writable.
    """
    return os.environ.get("TMPDIR") or str(disk.temporary_folder())


def _limit(name: str) -> Sequence[str]:
    """Return the words of a cgroup v2 limit file; () if there is none, as outside of a container."""
    try:
        with open(f"{_CGROUP}/{name}") as limit:
            return limit.read().split()
    except OSError:
        return ()


def start_server() -> None:
    """Start the fork server; its imports run in parallel to this process."""
    forkserver.set_forkserver_preload(_IMPORTED)
    choose_socket_folder()
    # First, since the fork server would start it, too, and its start unblocks Ctrl-C (SIGINT).
    resource_tracker.ensure_running()
    with _environment(_ENVIRONMENT), _ctrl_c_later():
        forkserver.ensure_running()


@dataclass
class _Worker:
    process: Any
    connection: Any
    task: int | None = None  # number of the task that it runs; None: idle


class Processes:
    """Pool of at most ``number`` worker processes, which are started when there are tasks for them."""

    def __init__(self, number: int, scratch: str) -> None:
        self._number = number
        self._scratch = scratch
        self._workers: list[_Worker] = []
        self._context: Any = get_context("forkserver")
        start_server()

    def run(
        self, stage: str, tasks: Sequence[Task], use: Callable[[Any], Any], progress: Progress
    ) -> list[Any]:
        """Run tasks in the workers and return ``use(result)`` of each, in the order of the tasks.

        The first exception of a task is raised here; other tasks may still run then, until `close`.

        Args:
            stage: One of `STAGES`, for progress and messages.
            tasks: Picklable functions, called in the workers.
            use: Called in this process with the result of each task, as soon as it has ended.
            progress: Called about every second with the stage, the number of finished tasks and of all tasks.

        Raises:
            CorpusError: The worker of one task died `TRIES` times.
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
                except (EOFError, OSError):  # the worker has died
                    self._workers.remove(worker)
                    self._again(stage, worker, number, waiting, tries)
                    continue
                worker.task = None
                if failed:
                    raise outcome
                results[number] = use(outcome)
            if time.monotonic() - looked >= REPORT_EVERY:
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
            with suppress(BrokenPipeError):  # it died while it was idle: `run` notices when it reads from it
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
        """Wait up to `REPORT_EVERY` seconds; return workers with an outcome or dead ones, and their tasks."""
        busy = {one.connection: (one, one.task) for one in self._workers if one.task is not None}
        return [busy[ready] for ready in connection.wait(list(busy), REPORT_EVERY)]

    def _again(
        self, stage: str, worker: _Worker, number: int, waiting: deque[Any], tries: dict[int, int]
    ) -> None:
        worker.process.join(_PATIENCE)
        said = _end_of(worker.process.exitcode)
        error = CorpusError(
            "worker processes that finish", f"a worker of stage {stage} {said}",
            "give the machine more memory or use a smaller --workers, then run again; the index is unchanged",
        )  # fmt: skip
        if tries[number] == TRIES:
            raise error
        say_retry(f"task {number} of {stage}", tries[number] + 1, error)
        waiting.appendleft((number, tries[number] + 1))

    def close(self) -> None:
        """End all workers; those that run a task get SIGTERM, so that they can remove unfinished files."""
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
    return f"killed by {name}" + (" (memory may have run out)" if name == "SIGKILL" else "")


@contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    """Add ``more`` to the environment during the block; variables that are set already keep their value."""
    added = {name: value for name, value in more.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Block Ctrl-C (SIGINT) during the block; processes started in it inherit that and never get it.

    A terminal sends SIGINT to all processes: the fork server would print the traceback of its imports.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _no_main() -> Iterator[None]:
    """Hide the running script (``__main__``) while a worker starts, so that the worker does not import it.

    No task is defined there.
    """
    main = sys.modules["__main__"]
    names = [name for name in ("__file__", "__spec__") if name in main.__dict__]
    hidden: dict[str, Any] = {name: main.__dict__.pop(name) for name in names}
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(hidden)


def work(tasks: Any, scratch: str, environment: Mapping[str, str]) -> None:
    """Run tasks in a worker process until the connection is closed.

    Args:
        tasks: Connection from which pickled tasks are read, and to which pickled outcomes are written.
        scratch: The run's temporary folder; removed if the parent process dies.
        environment: The parent's variables, which may have changed since the fork server was started.
    """
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends the workers
    signal.signal(signal.SIGTERM, _on_sigterm)
    import pyarrow as pa

    pa.set_cpu_count(1)
    gc.freeze()  # imported modules stay, so they need no collection
    gc.disable()  # a task makes millions of objects and hardly a cycle: garbage is collected between tasks
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
    sys.exit(128 + number)  # unlike the default action, it runs finally blocks: files are closed and removed


def _end_with_parent(scratch: str) -> None:
    """Wait for the parent process to end, then remove the temporary folder and exit.

    A parent that is killed can neither end its workers nor remove its files.
    """
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)
