"""Work ahead in threads and processes: in order, bounded, and with nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future

import psutil
import pytest

from bisieve.errors import ImageError
from ray_train.data.workers import chosen_workers, data_workers, in_order, threads


@pytest.mark.parametrize(
    ("asked", "cpus", "local_ranks", "chosen"),
    [
        (-1, 2, 2, 0),
        (-1, 2, 1, 1),
        (-1, 32, 8, 3),
        (-1, 96, 1, 8),
        (-1, 1, 4, 0),
        (0, 96, 1, 0),
        (20, 2, 2, 20),
    ],
)
def test_data_workers_are_as_many_as_asked_for_or_a_share_of_the_cpus(
    asked: int, cpus: int, local_ranks: int, chosen: int
) -> None:
    assert chosen_workers(asked, cpus, local_ranks) == chosen


def test_results_come_in_order_however_long_they_take() -> None:
    def work(number: int) -> int:
        time.sleep(0.01 * (number % 3 == 0))
        return number

    with threads(4, work, ahead=8) as work_on:
        assert list(work_on(range(40))) == list(range(40))


def test_no_more_than_so_many_items_are_taken_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    results = in_order(finished, items(), ahead=3)
    assert next(results) == 0
    assert taken == [0, 1, 2]
    assert next(results) == 1
    assert taken == [0, 1, 2, 3]


def finished(number: int) -> "Future[int]":
    future: Future[int] = Future()
    future.set_result(number)
    return future


def test_an_error_of_the_source_comes_behind_what_it_gave_before() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise ImageError("an image", "none", "correct it")

    results = in_order(finished, items(), ahead=10)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ImageError):
        next(results)


def test_a_data_worker_sees_no_gpu() -> None:
    with data_workers(1, os.getenv) as work_on:
        assert list(work_on(["CUDA_VISIBLE_DEVICES"])) == [""]


SCORED_BEFORE = """
import importlib.util
from bisieve.local.processes import start_server
from ray_train.data.workers import data_workers
start_server()
with data_workers(1, importlib.util.find_spec) as work_on:
    print(*(spec.name for spec in work_on(["pandas", "torch._dynamo"])))
"""


def test_data_workers_of_a_process_that_has_scored_can_import_everything() -> None:
    """Both use the process's fork server, in which pyarrow must not import pandas."""
    ran = subprocess.run([sys.executable, "-c", SCORED_BEFORE], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("pandas torch._dynamo\n", "")


RANK = """
import os, time
from ray_train.data.workers import data_workers
with data_workers(2, time.sleep) as work_on:
    print(*(n for n, _ in enumerate(work_on([0, 0]))), flush=True)
    list(work_on([600]))
"""


def test_a_rank_that_is_killed_takes_its_data_workers_along() -> None:
    with subprocess.Popen([sys.executable, "-c", RANK], stdout=subprocess.PIPE, text=True) as rank:
        assert rank.stdout is not None
        assert rank.stdout.readline() == "0 1\n"
        below = psutil.Process(rank.pid).children(recursive=True)
        assert len(below) >= 3, "a fork server, a tracker, a worker"
        rank.send_signal(signal.SIGKILL)
    assert psutil.wait_procs(below, timeout=20)[1] == []
