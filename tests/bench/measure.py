"""Runs a command and tells what it took: time, processor, memory."""

import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SAMPLE_S = 0.1
_MB = 1e6


@dataclass(frozen=True)
class Usage:
    """What a command took, with all the processes that it started."""

    exit_code: int
    wall_s: float  # from before its process begins until it has ended
    cpu_s: float
    memory_mb: float  # the most at one time, over all processes; mapped files are not counted
    worker_mb: float  # the most that a Python worker of Spark or of ours held, mapped files counted; 0: none


def measure(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    limit_s: float = 7200,
    beside: Sequence[int] = (),
) -> Usage:
    """Runs ``command`` with its output in ``log``; it is ended after ``limit_s``.

    ``beside`` names processes that are at work for it without being its children: a cluster's.
    """
    before = _children_cpu_s()
    roots = [psutil.Process(pid) for pid in beside]
    watched = _Watched()
    watched.begin(roots)
    with open(log, "wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=dict(environment))
        root = psutil.Process(process.pid)
        ended = threading.Event()
        sampler = threading.Thread(target=_sample, args=(watched, [root, *roots], ended))
        timer = threading.Timer(limit_s, _end, [root])
        sampler.start()
        timer.start()
        exit_code = process.wait()
        wall_s = time.monotonic() - began
    timer.cancel()
    ended.set()
    sampler.join()
    # Samples miss the last moments of a process, the kernel those that nobody waited for.
    cpu_s = max(watched.cpu_s, _children_cpu_s() - before)
    return Usage(exit_code, wall_s, cpu_s, watched.memory / _MB, watched.worker / _MB)


@dataclass
class _Watched:
    memory: int = 0  # bytes
    worker: int = 0  # bytes
    seconds: dict[tuple[int, float], float] = field(default_factory=dict)  # by process
    before: dict[tuple[int, float], float] = field(default_factory=dict)

    @property
    def cpu_s(self) -> float:
        return sum(self.seconds.values()) - sum(self.before.values())

    def begin(self, roots: Sequence[psutil.Process]) -> None:
        """Notes what processes that are there already have used."""
        self.look(roots)
        self.before = dict(self.seconds)
        self.memory = self.worker = 0

    def look(self, roots: Sequence[psutil.Process]) -> None:
        memory = 0
        for process in _with_children(roots):
            with suppress(psutil.Error), process.oneshot():
                held = process.memory_info()
                memory += held.rss - held.shared
                times = process.cpu_times()
                self.seconds[process.pid, process.create_time()] = times.user + times.system
                if _is_python_worker(process.cmdline()):
                    self.worker = max(self.worker, held.rss)
        self.memory = max(self.memory, memory)


def _sample(watched: _Watched, roots: Sequence[psutil.Process], ended: threading.Event) -> None:
    while not ended.wait(SAMPLE_S):
        watched.look(roots)


def _with_children(roots: Sequence[psutil.Process]) -> Iterator[psutil.Process]:
    for root in roots:
        with suppress(psutil.Error):
            yield root
            yield from root.children(recursive=True)


def _is_python_worker(command: Sequence[str]) -> bool:
    return any(
        part in ("pyspark.daemon", "pyspark.worker") or part.startswith("from multiprocessing.forkserver")
        for part in command
    )


def _end(root: psutil.Process) -> None:
    for process in _with_children([root]):
        with suppress(psutil.Error):
            process.kill()


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def tail(log: Path, size: int = 400) -> str:
    """The end of a command's output, in one line."""
    with open(log, "rb") as file:
        file.seek(max(0, os.path.getsize(log) - size))
        return " ".join(file.read().decode(errors="replace").split())
