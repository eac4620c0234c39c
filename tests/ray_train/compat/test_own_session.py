"""What ends with the process that started it, and who handles its signals."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ray_train.compat.own_session import kept_handlers, start_reaper

_SLEEP = ["bash", "-c", 'exec -a "$0" sleep 60']


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Processes that are ended with the test."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_marked_processes_and_rays_own_of_a_session_end_with_the_block_and_strangers_do_not(
    started: list["subprocess.Popen[bytes]"],
) -> None:
    def start(title: str, **environment: str) -> "subprocess.Popen[bytes]":
        env = {"PATH": os.environ["PATH"], **environment}
        started.append(subprocess.Popen([*_SLEEP, title], env=env, start_new_session=True))
        return started[-1]

    with start_reaper() as watch:
        name, _, value = watch.marker.partition("=")
        marked = start("worker", **{name: value})
        overwritten = start("ray::Agent")  # its marker is gone, as that of a process that sets a long title
        stranger, other_ray = start("worker"), start("ray::Agent")
        watch.add(overwritten.pid)
        watch.add(stranger.pid)  # a number that was given to somebody else since
    assert marked.wait(timeout=5) == overwritten.wait(timeout=5) == -9
    assert stranger.poll() is None
    assert other_ray.poll() is None


def test_sigterm_while_ray_has_set_a_handler_of_its_own_is_handled_as_before() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with kept_handlers():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as `ray.init` does
            signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sigterm_while_rays_core_starts_waits_for_the_handler_of_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    received: list[str] = []

    # Ray's core sets its handler in C++, where Python does not see it.
    def connect() -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: received.append("Ray's"))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("ray._private.worker.connect", connect)
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append("ours"))
    try:
        with kept_handlers():
            from ray._private import worker

            worker.connect()
            assert received == []
        assert received == ["ours"]
    finally:
        signal.signal(signal.SIGTERM, before)
