"""A real standalone Spark cluster on this machine, from pip's pyspark: a master and one-core workers."""

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyspark

WORKER_MEMORY = "2g"
_PATIENCE_S = 60
_DEPLOY = "org.apache.spark.deploy"


@dataclass(frozen=True)
class Cluster:
    """A running cluster."""

    master: str  # its URL
    pids: tuple[int, ...]


@contextmanager
def standalone_cluster(workers: int, folder: Path, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """A cluster that ends with the block; its logs lie in ``folder``.

    Its master takes no jobs by REST: that port is one a machine, and another cluster's would answer for it.
    """
    daemons = f"-Dspark.master.rest.enabled=false {environment.get('SPARK_DAEMON_JAVA_OPTS', '')}"
    environment = {**environment, "SPARK_DAEMON_JAVA_OPTS": daemons}
    folder.mkdir(parents=True, exist_ok=True)
    port, web_port = _free_ports(2)
    master = f"spark://127.0.0.1:{port}"
    started: list[subprocess.Popen[bytes]] = []
    try:
        address = ["-h", "127.0.0.1", "-p", str(port), "--webui-port", str(web_port)]
        started.append(_start("master", [f"{_DEPLOY}.master.Master", *address], folder, environment))
        _wait_for_workers(web_port, 0)
        for number in range(workers):
            command = [f"{_DEPLOY}.worker.Worker", "-c", "1", "-m", WORKER_MEMORY, "-h", "127.0.0.1"]
            command += ["--webui-port", "0", "-d", str(folder / f"worker-{number}"), master]
            started.append(_start(f"worker-{number}", command, folder, environment))
        _wait_for_workers(web_port, workers)
        yield Cluster(master, tuple(process.pid for process in started))
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait()


def _start(
    name: str, command: list[str], folder: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    # spark-class becomes the Java process, so the process id is that of the daemon itself.
    spark_class = Path(pyspark.__file__).parent / "bin" / "spark-class"
    with open(folder / f"{name}.log", "wb") as log:
        return subprocess.Popen(
            [str(spark_class), *command], stdout=log, stderr=subprocess.STDOUT, env=dict(environment)
        )


def _wait_for_workers(web_port: int, wanted: int) -> None:
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{web_port}/json/", timeout=5) as answer:
                if json.load(answer)["aliveworkers"] >= wanted:
                    return
        except (OSError, ValueError):  # ValueError: it answers with its page before it has its JSON
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the cluster's {wanted} workers did not come up in {_PATIENCE_S} s")


def _free_ports(number: int) -> list[int]:
    with ExitStack() as open_together:  # so that no two are the same
        sockets = [open_together.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
