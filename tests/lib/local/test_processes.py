"""Worker processes: as many as fit, results in order, errors as they are, none lost with a process."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import tasks

from bisieve.errors import CorpusError
from bisieve.local import processes
from bisieve.local.processes import Processes


def nothing(stage: str, done: int, of: int) -> None:
    return


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Processes]:
    pool = Processes(2, str(tmp_path))
    yield pool
    pool.close()


def run(pool: Processes, *work: Any) -> list[Any]:
    return pool.run("scan", work, lambda result: result, nothing)


def test_results_are_in_the_order_of_the_tasks_and_no_more_workers_than_asked_are_started(
    pool: Processes,
) -> None:
    assert run(pool, *(partial(tasks.number, value) for value in range(20))) == list(range(20))
    pids = {worker.process.pid for worker in pool._workers}
    assert len(pids) == 2
    pool.close()
    assert not any(map(psutil.pid_exists, pids))


def test_a_task_whose_worker_is_killed_is_run_again_and_that_is_said(
    pool: Processes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "bisieve.retries"):
        work = [partial(tasks.die, str(tmp_path / "tries"), 0), *(partial(tasks.number, n) for n in (1, 2))]
        assert run(pool, *work) == [0, 1, 2]
    assert "task 0 of scan: try 2 now" in caplog.text
    assert "SIGKILL" in caplog.text


def test_a_task_that_is_killed_again_is_an_error_with_its_cause(pool: Processes, tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match=r"a worker of stage scan killed by SIGKILL \(memory may have run out\)"
    ):
        run(pool, partial(tasks.die, str(tmp_path / "tries"), 0, times=9), partial(tasks.number, 1))


def test_what_a_task_raises_is_raised_with_where_it_was(pool: Processes) -> None:
    with pytest.raises(ValueError, match="no such thing") as raised:
        run(pool, tasks.refuse, partial(tasks.number, 1))
    assert "in refuse" in raised.value.__notes__[0]


def test_progress_is_told_while_tasks_run(pool: Processes) -> None:
    told: list[tuple[str, int, int]] = []
    pool.run(
        "scan", [partial(time.sleep, 1.5), partial(time.sleep, 1.5), partial(time.sleep, 0)],
        lambda result: result, lambda *at: told.append(at),
    )  # fmt: skip
    assert told
    assert {(stage, of) for stage, _, of in told} == {("scan", 3)}


def test_ctrl_c_while_the_server_imports_shows_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import pathlib, time; pathlib.Path('begun').touch(); time.sleep(2)")
    code = (
        "import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(130)); "
        "from bisieve.local import processes; processes._IMPORTED = ['slow']; processes.start_server(); "
        "time.sleep(60)"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    running = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    while not (tmp_path / "begun").exists():
        assert running.poll() is None
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    assert running.communicate(timeout=60)[1] == ""
    assert running.returncode == 130


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with a container's limits, on a machine of 64 cores and 256 GB."""
    monkeypatch.setattr(processes, "_CGROUP", str(tmp_path))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 2**26, "SC_PAGE_SIZE": 4000}.__getitem__)
    return tmp_path


@pytest.mark.parametrize(
    ("cpu", "memory", "cores", "workers"),
    [
        (None, None, 64, 64),
        ("max 100000", "max", 64, 64),
        ("150000 100000", "max", 2, 2),
        ("50000 100000", "max", 1, 1),
        ("max 100000", "2000000000", 64, 3),
        ("max 100000", "100000000", 64, 1),
    ],
)
def test_workers_follow_cores_and_memory(
    limits: Path, cpu: str | None, memory: str | None, cores: int, workers: int
) -> None:
    for name, text in {"cpu.max": cpu, "memory.max": memory}.items():
        if text is not None:
            (limits / name).write_text(f"{text}\n")
    assert (processes.usable_cores(), processes.usable_workers()) == (cores, workers)
