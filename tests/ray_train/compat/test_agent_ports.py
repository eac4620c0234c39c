"""A local Ray starts on a busy machine, where its agents take longer than its raylet would wait for them.

And it starts no more than it needs (`ray_train.compat.local_ray`).
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ray._private import parameter

from ray_train.compat.agent_ports import chosen_agent_ports, free_ports

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
