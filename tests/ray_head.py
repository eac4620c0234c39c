"""A Ray of our own that jobs can be submitted to, with token authentication."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil

BIN = Path(sys.executable).parent
PORTS = (
    "port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port", "runtime-env-agent-port", "metrics-export-port",
)  # fmt: skip


@dataclass(frozen=True)
class RayHead:
    """Where it is, and what a client needs."""

    port: int
    token: str
    environment: Mapping[str, str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> bytes:
        """What the dashboard answers."""
        request = Request(f"{self.address}{path}", headers={"Authorization": f"Bearer {self.token}"})
        with urlopen(request, timeout=5) as answer:
            return bytes(answer.read())


@contextmanager
def ray_head(free_ports: Callable[..., dict[str, int]], **environment: str) -> Iterator[RayHead]:
    """Starts it with two CPUs and ends it; jobs have this process's environment and ``environment``."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: it holds sockets
    (folder / "token").write_text("c0ffee" * 8)
    ports = free_ports(*PORTS)
    whole = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        **environment,
    }
    head = RayHead(ports["dashboard-port"], (folder / "token").read_text(), whole)
    command = [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", f"--temp-dir={folder}"]
    command += ["--node-ip-address=127.0.0.1", *(f"--{name}={port}" for name, port in ports.items())]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=whole)
    try:
        _wait_until_up(head, folder / "log")
        yield head
    finally:
        # Ray itself would take half a minute to end what it started.
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            one.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_up(head: RayHead, log: Path) -> None:
    for _ in range(120):
        try:
            head.get("/api/jobs/")
            return
        except (URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"Ray did not come up:\n{log.read_text()[-2000:]}")
