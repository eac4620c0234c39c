"""What is made to befall a scoring job: each function patches the library so that it happens.

The patched functions travel to Spark's workers inside the tasks that call them.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import psutil
from pyspark import TaskContext

from bisieve.index.writer import write_ranked_file
from bisieve.io.storage import open_output, write_bytes
from bisieve.scan import scan_rollout_split

Befalls = Callable[[], None]


def every_task_fails_once_while_it_scans(marker: str) -> Any:
    return _while_it_scans(lambda: _fail_at_first(marker))


def every_task_fails_once_after_it_wrote(marker: str) -> Any:
    return _after_it_wrote(lambda: _fail_at_first(marker))


def a_slow_task_is_run_twice(marker: str) -> Any:
    return _after_it_wrote(lambda: _sleep_at_first(marker))


def an_executor_dies_while_it_scans(marker: str) -> Any:
    return _while_it_scans(lambda: _kill_executor(marker))


def an_executor_dies_while_it_writes(marker: str) -> Any:
    def write(index: str, path: str, *rest: Any) -> Any:
        if _first(marker):
            with open_output(f"{index}/{path}") as file:
                file.write(b"half of it")
                file.flush()
                _kill_all()
        return write_ranked_file(index, path, *rest)

    return patch("bisieve.pipeline.ranked_files.write_ranked_file", write)


def a_shard_is_replaced_while_it_is_read(marker: str) -> Any:
    shard, _, done = marker.partition(" ")
    return _while_it_scans(lambda: write_bytes(shard, b"{}\n") if _first(done) else None)


def the_driver_dies_before_it_publishes(marker: str) -> Any:
    return patch("bisieve.pipeline.run.check_unchanged", lambda *_: os.kill(os.getpid(), signal.SIGKILL))


def _while_it_scans(befalls: Befalls) -> Any:
    def scan(split: Any, options: Any) -> Iterator[Any]:
        for place, batch in enumerate(scan_rollout_split(split, options)):
            yield batch
            if not place:
                befalls()

    return patch("bisieve.pipeline.scan_tasks.scan_rollout_split", scan)


def _after_it_wrote(befalls: Befalls) -> Any:
    def write(*args: Any) -> Any:
        written = write_ranked_file(*args)
        befalls()
        return written

    return patch("bisieve.pipeline.ranked_files.write_ranked_file", write)


def _fail_at_first(marker: str) -> None:
    if _runs_again(marker):
        return
    raise RuntimeError("made to fail at its first attempt")


def _sleep_at_first(marker: str) -> None:
    if not _runs_again(marker) and _task().partitionId() == 0:
        time.sleep(30)


def _runs_again(marker: str) -> bool:
    """Whether this is not the task's first attempt; then the marker is left."""
    return _task().attemptNumber() > 0 and (_first(marker) or True)


def _task() -> TaskContext:
    context = TaskContext.get()
    assert context is not None
    return context


def _first(marker: str) -> bool:
    try:
        open(marker, "x").close()
    except FileExistsError:
        return False
    return True


def _kill_executor(marker: str) -> None:
    if _first(marker):
        _kill_all()


def _kill_all() -> None:
    """Kills the executor whose worker this is, and this."""
    next(parent for parent in psutil.Process().parents() if parent.name() == "java").kill()
    os.kill(os.getpid(), signal.SIGKILL)
