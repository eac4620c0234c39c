"""A Ray of several nodes on this machine, each of one CPU, with token authentication."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil

from support import forked_workers
from support.forked_workers import ForkServer

FreePorts = Callable[..., dict[str, int]]

BIN = Path(sys.executable).parent
_OF_HEAD = ("port", "dashboard-port", "ray-client-server-port")
_OF_NODE = (
    "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port",
    "metrics-export-port",
)  # fmt: skip


@dataclass
class Nodes:
    """A head, and what joined it."""

    address: str  # of the dashboard
    gcs: str
    token: str
    environment: dict[str, str]  # of its jobs, and of whoever speaks to it
    _free_ports: FreePorts
    _folder: Path
    _fork_server: int  # process id
    _started: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    _agents: list[int] = field(default_factory=list)  # the ports of their agents, which take jobs

    def add(self, *options: str) -> None:
        """Starts a node, by default one that joins the head."""
        command = [
            sys.executable,
            forked_workers.__file__,
            "ray",
            "start",
            "--block",
            "--num-cpus=1",
            "--node-ip-address=127.0.0.1",
        ]
        ports = self._free_ports(*_OF_NODE)
        command += [f"--{name}={port}" for name, port in ports.items()]
        self._agents.append(ports["dashboard-agent-listen-port"])
        # A folder of its own, as on a machine of its own: a node unpacks a job's code over what is there.
        folder = self._folder / f"{len(self._started)}"
        joins = [f"--address={self.gcs}", f"--temp-dir={folder}"]
        joins += ["--min-worker-port=0", "--max-worker-port=0"]
        with open(self._folder / f"log-{len(self._started)}", "w") as log:
            self._started.append(
                subprocess.Popen(
                    [*command, *(options or joins)], stdout=log, stderr=log, env=self.environment
                )
            )

    def kill(self, number: int) -> None:
        """Takes a node away, 0 being the head: all its processes at once; a moment would be half a minute."""
        node = self._started[number]
        if node.poll() is None:
            for process in [*psutil.Process(node.pid).children(recursive=True), node]:
                process.kill()
            node.wait()

    def end(self) -> None:
        """Takes all nodes away, the head last."""
        for number in reversed(range(len(self._started))):
            self.kill(number)

    def processes(self) -> list[psutil.Process]:
        """All that its nodes have started."""
        parents = [*(node.pid for node in self._started), self._fork_server]
        return [child for pid in parents for child in psutil.Process(pid).children(recursive=True)]

    def submit(self, command: list[str], **options: object) -> "subprocess.Popen[str]":
        """Starts ``command``, which speaks to the head, in the checkout."""
        root = Path(__file__).parents[2]
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            command, cwd=root, env=self.environment, text=True, **options
        )

    def get(self, path: str) -> Any:
        """The JSON that the dashboard answers."""
        request = Request(self.address + path, headers={"Authorization": f"Bearer {self.token}"})
        with urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def _wait_until_up(self) -> None:
        """Return once all of its nodes have joined: under load one may fail to."""
        for _ in range(720):
            if any(node.poll() is not None for node in self._started):
                break
            with suppress(URLError, OSError, KeyError):
                nodes = self.get("/api/v0/nodes")["data"]["result"]["result"]
                if [node["state"] for node in nodes] == ["ALIVE"] * len(self._started):
                    self.get("/api/jobs/")
                    for port in self._agents:
                        socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    return
            time.sleep(0.5)
        logs = [(self._folder / f"log-{number}").read_text()[-1500:] for number in range(len(self._started))]
        raise RuntimeError("Ray did not come up:\n" + "\n".join(logs))


def _forked_programs(folder: Path, forks: ForkServer) -> Path:
    """A folder with `python` and `bisieve` for jobs and for who submits them: they import nothing again."""
    programs = folder / "bin"
    programs.mkdir()
    for name, words in (("python", []), ("bisieve", [str(BIN / "bisieve")])):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(forks.program(*words))} "$@"\n')
        (programs / name).chmod(0o755)
    return programs


@contextmanager
def started_nodes(
    free_ports: FreePorts, forks: ForkServer, others: int = 1, **environment: str
) -> Iterator[Nodes]:
    """A head and other nodes, ended with the block; what they start has this environment and that one."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: it holds sockets
    ports = free_ports(*_OF_HEAD)
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    whole = {
        **os.environ,
        "PATH": f"{_forked_programs(folder, forks)}:{BIN}:{os.environ['PATH']}",
        **forks.environment,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_health_check_period_ms": "1000",  # a lost node is seen after five checks; 3 s apart by default
        **environment,
    }
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        gcs = f"127.0.0.1:{ports['port']}"
        nodes = Nodes(address, gcs, forks.token, whole, free_ports, folder, forks.pid)
        stack.callback(nodes.end)
        nodes.add("--head", f"--temp-dir={folder}", *(f"--{name}={port}" for name, port in ports.items()))
        nodes._wait_until_up()
        for _ in range(others):
            nodes.add()
            nodes._wait_until_up()
        yield nodes
