"""Sparks in processes of their own, a standalone cluster among them, and what they score."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pyspark
import pytest
from sparks import Driver, StartDriver
from support import reference
from support.faulty_proxy import FaultyProxy
from support.index_files import contents
from support.lean_jvm import LEAN_JVM

HERE = Path(__file__).parent
_MEMORY = {"spark.driver.memory": "512m", "spark.executor.memory": "512m", "spark.ui.enabled": "false"}
_CLUSTER = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.executor.cores": "1",
    "spark.executor.extraJavaOptions": LEAN_JVM,
    "spark.speculation": "true",
    "spark.speculation.interval": "200ms",
    "spark.speculation.minTaskRuntime": "2s",
}


@pytest.fixture(scope="session")
def start_driver(proxy: FaultyProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartDriver]:
    """Starts drivers that see the S3 server through the proxy."""
    folder = tmp_path_factory.mktemp("drivers")
    with ExitStack() as closing:

        def start(master: str, **conf: str) -> Driver:
            log = folder / f"{len(list(folder.iterdir()))}.log"
            environment = {
                **os.environ,
                "AWS_ENDPOINT_URL": proxy.url,
                "AWS_MAX_ATTEMPTS": "2",
                "FSSPEC_S3": json.dumps({"config_kwargs": {"read_timeout": 1}}),
                "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])),
                "PYSPARK_PYTHON": sys.executable,
            }
            seen = ("AWS_", "FSSPEC_", "PYTHONPATH")
            told = {f"spark.executorEnv.{k}": v for k, v in environment.items() if k.startswith(seen)}
            options = json.dumps({**_MEMORY, **told, **conf})
            with open(log, "w") as stderr:
                process = subprocess.Popen(
                    [sys.executable, str(HERE / "driver.py"), master, options],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment,
                )  # fmt: skip
            driver = Driver(process, log)
            closing.callback(driver.close)
            assert driver.answer() == "ready"
            return driver

        yield start


@pytest.fixture(scope="session")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, free_ports: Callable[..., dict[str, int]]
) -> Iterator[str]:
    """The URL of a standalone master with two workers of one core each, on hosts of two names.

    Spark runs a task a second time only on another host.
    """
    folder = tmp_path_factory.mktemp("cluster")
    ports = free_ports("master", "page", "one", "two")
    url = f"spark://127.0.0.1:{ports['master']}"
    master = [
        "master.Master",
        "--host",
        "127.0.0.1",
        "--port",
        str(ports["master"]),
        "--webui-port",
        str(ports["page"]),
    ]
    workers = [
        [
            "worker.Worker",
            "--host",
            host,
            "-c",
            "1",
            "-m",
            "1g",
            "-d",
            str(folder / host),
            "--webui-port",
            str(port),
            url,
        ]
        for host, port in (("127.0.0.1", ports["one"]), ("localhost", ports["two"]))
    ]
    # The port of REST is one a machine: a doctor elsewhere would find this master's.
    daemons = f"{LEAN_JVM} -Dspark.master.rest.enabled=false"
    environment = {**os.environ, "SPARK_DAEMON_MEMORY": "256m", "SPARK_DAEMON_JAVA_OPTS": daemons}
    spark_class = Path(pyspark.__file__).parent / "bin" / "spark-class"
    running = []
    try:
        for name, *options in (master, *workers):
            command = [str(spark_class), f"org.apache.spark.deploy.{name}", *options]
            with open(folder / f"{len(running)}.log", "w") as log:
                running.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        _wait_for_workers(f"http://127.0.0.1:{ports['page']}/json/", folder)
        yield url
    finally:
        for process in running:
            process.kill()
            process.wait()


def _wait_for_workers(page: str, folder: Path) -> None:
    for _ in range(120):
        try:
            with urlopen(page, timeout=2) as answer:
                if json.load(answer)["aliveworkers"] == 2:
                    return
        except OSError:
            pass
        time.sleep(0.5)
    logs = "\n".join(log.read_text()[-1000:] for log in folder.glob("*.log"))
    raise RuntimeError(f"the cluster did not come up:\n{logs}")


@pytest.fixture(scope="session")
def on_cluster(cluster: str, start_driver: StartDriver) -> Driver:
    """Scores on the standalone cluster."""
    return start_driver(cluster, **_CLUSTER)


@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of Spark's event log of `on_one_core`."""
    return tmp_path_factory.mktemp("events")


@pytest.fixture(scope="session")
def on_one_core(start_driver: StartDriver, events: Path) -> Driver:
    """Scores on ``local[1]``, and keeps an event log."""
    log = {"enabled": "true", "dir": f"file://{events}", "rolling.enabled": "false", "compress": "false"}
    conf = {f"spark.eventLog.{name}": value for name, value in log.items()}
    return start_driver("local[1]", **conf, **{"spark.shuffle.compress": "false"})


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same rollouts in both layouts."""
    folder = tmp_path_factory.mktemp("corpora")
    reference.write_random_corpus(folder / "rollouts", seed=9, sizes={"big": 300, "a-small": 7, "ä": 40})
    reference.write_as_steps(folder / "rollouts", folder / "steps", seed=9)
    return {name: folder / name for name in ("rollouts", "steps")}


@pytest.fixture(scope="session")
def unharmed(
    on_one_core: Driver, corpora: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The files of the rollouts' index when nothing befalls the run that makes it."""
    index = tmp_path_factory.mktemp("unharmed") / "index"
    assert on_one_core(corpora["rollouts"], index) is None
    return contents(index)
