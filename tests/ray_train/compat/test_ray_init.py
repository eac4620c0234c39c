"""What is changed of a Ray that starts: who gets its signals, what ends with it, its ports, its processes."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray._private import parameter
from ray._private.node import Node

from ray_train.compat.ray_init import (
    chosen_agent_ports,
    few_processes,
    free_ports,
    kept_handlers,
    start_reaper,
)

SLEEP = ["bash", "-c", 'exec -a "$0" sleep 60']
# Ray itself gives an agent 15 seconds.
LATE = """
import sys, time
if any(word.endswith(("dashboard/agent.py", "runtime_env/agent/main.py")) for word in sys.orig_argv):
    time.sleep(17)
"""
START = """
import psutil
from ray_train.cluster import cluster
with cluster(1) as ray:
    print(ray.get(ray.remote(lambda: "a task has run").remote()))
    words = {word for one in psutil.Process().children(recursive=True) for word in one.cmdline()}
    print(*sorted(word.rpartition("/")[2] for word in words if word.endswith(".py")))
"""
LEFT_OUT = ("start_api_server", "start_monitor", "start_log_monitor")


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
        started.append(subprocess.Popen([*SLEEP, title], env=env, start_new_session=True))
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
        # To this thread: pytest may have others, to which the kernel would give a signal of the process.
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

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


@pytest.mark.ray
@pytest.mark.slow  # over 20 s: that long the agents take
def test_a_ray_starts_whose_agents_take_longer_than_its_raylet_would_wait(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(LATE)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": ":".join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", START], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-2:] == [
        "a task has run",
        "agent.py main.py reaper.py",  # no dashboard.py, monitor.py or log_monitor.py
    ], done.stdout + done.stderr


def test_each_agent_of_a_ray_has_a_port_of_its_own_before_it_starts() -> None:
    with chosen_agent_ports():
        given = parameter.RayParams(metrics_export_port=None, dashboard_port=8265)
    ports = {
        given.metrics_agent_port, given.metrics_export_port, given.dashboard_agent_listen_port,
        given.runtime_env_agent_port,
    }  # fmt: skip
    assert len(ports) == 4
    assert all(20_000 <= port < 32_768 for port in ports)
    assert given.dashboard_port == 8265


def test_a_port_that_is_in_use_is_not_chosen() -> None:
    every = free_ports(1000)
    with socket.create_server(("127.0.0.1", every[0])):
        assert every[0] not in free_ports(12_000)


def test_ray_is_as_it_was_after_the_block() -> None:
    before = parameter.RayParams
    with chosen_agent_ports():
        assert parameter.RayParams is not before
    assert parameter.RayParams is before


def test_a_ray_starts_nothing_that_only_a_cluster_needs_and_is_as_it_was_after_the_block() -> None:
    node: Any = object.__new__(Node)  # it is asked nothing, and has nothing
    before = [getattr(Node, name) for name in LEFT_OUT]
    with few_processes():
        node.start_api_server(include_dashboard=False, raise_on_failure=False)
        node.start_monitor()
        node.start_log_monitor()
    assert [getattr(Node, name) for name in LEFT_OUT] == before
