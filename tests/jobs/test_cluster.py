"""A real standalone cluster that asks for a secret: ``spark-submit``, ``bisieve score`` and the doctor.

The code comes to its workers as a wheel, the index is on S3.
"""

import json
import os
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.cluster import Cluster, standalone_cluster
from support.arguments import Arguments
from support.lean_jvm import LEAN_JVM

from bisieve.index.reader import open_index
from bisieve.io.storage import read_bytes, stored_files

pytestmark = pytest.mark.spark  # a standalone cluster

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SECRET = "5ec2e7" * 8
LOCKED = {
    "_SPARK_AUTH_SECRET": SECRET,
    "SPARK_DAEMON_JAVA_OPTS": f"{LEAN_JVM} -Dspark.authenticate=true",
}
ON_THIS_MACHINE = {
    "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
    "spark.executor.memory": "1g",
}  # fmt: skip


def of_a_machine() -> dict[str, str]:
    """Return the environment of a machine that has no checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has all that bisieve needs, as the machines of a cluster have it, and no bisieve."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # An editable install is a .pth file of its own, which is not read from there.
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib"))
    python = folder / "bin/python"
    for modules, code in (("pyspark, s3fs", 0), ("bisieve", 1)):
        done = subprocess.run(
            [python, "-c", f"import {modules}"],
            cwd=folder,
            env=of_a_machine(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, modules
    return python


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cluster's folder, which has its logs."""
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def cluster(python: Path, folder: Path, s3: str) -> Iterator[Cluster]:
    """A master and two workers that ask for `SECRET`; without bisieve."""
    with standalone_cluster(2, folder, {**of_a_machine(), **LOCKED}) as cluster:
        yield cluster


def as_options(flag: str, conf: dict[str, str]) -> list[str]:
    return [word for pair in conf.items() for word in (flag, "=".join(pair))]


def test_a_cluster_that_is_sent_a_wheel_scores_on_all_its_machines_and_tells_nobody_its_secret(
    cluster: Cluster, folder: Path, wheel: Path, python: Path, s3: str, rollout: Callable[..., Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    import s3fs

    shard = "".join(json.dumps(rollout([1.0, 0.0], question="?" * 20_000)) + "\n" for _ in range(500))
    for number in range(4):  # a task each
        s3fs.S3FileSystem().pipe(f"{s3}/cluster/shards/{number}.jsonl", shard.encode())
    environment = {
        **of_a_machine(),
        "PYSPARK_PYTHON": str(python), "PYSPARK_DRIVER_PYTHON": str(python), "_SPARK_AUTH_SECRET": SECRET,
    }  # fmt: skip
    (tmp_path / "log").mkdir()
    conf = {
        **ON_THIS_MACHINE,
        "spark.eventLog.enabled": "true", "spark.eventLog.dir": f"file://{tmp_path / 'log'}",
        "spark.eventLog.rolling.enabled": "false", "spark.eventLog.compress": "false",
        # The first executor would do all of so small a job before the second is up.
        "spark.scheduler.minRegisteredResourcesRatio": "1",
    }  # fmt: skip
    with Arguments() as arguments:
        done = subprocess.run(
            [
                BIN / "spark-submit", "--master", cluster.master, "--py-files", str(wheel),
                *as_options("--conf", conf), str(ROOT / "jobs/score_rollouts.py"),
                "--input", f"{s3}/cluster/shards", "--index", f"{s3}/cluster/index",
            ],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert open_index(f"{s3}/cluster/index").manifest.rollouts == 2000
    (log,) = (tmp_path / "log").iterdir()
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert len([event for event in events if event["Event"] == "SparkListenerExecutorAdded"]) == 2
    tasks = Counter(
        event["Task Info"]["Executor ID"] for event in events if event["Event"] == "SparkListenerTaskEnd"
    )
    assert set(tasks) == {"0", "1"}, tasks

    assert any("CoarseGrainedExecutorBackend" in line for line in arguments)
    written = [log, *(file for file in folder.rglob("*") if file.is_file() and file.suffix != ".whl")]
    assert any(file.name == "stderr" for file in written), "an executor's log"
    said = [*arguments, done.stdout, done.stderr, *(file.read_text(errors="replace") for file in written)]
    said += [repr(read_bytes(file.url)) for file in stored_files(f"{s3}/cluster/index")]
    assert [text[:200] for text in said if SECRET in text] == []


@pytest.mark.parametrize("door", ["spark-submit", "bisieve"])
@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "none"), ({"_SPARK_AUTH_SECRET": "0" * 48}, "another one")],
    ids=["none", "wrong"],
)
def test_a_master_that_asks_for_a_secret_is_answered_by_one_line_that_names_it(
    cluster: Cluster, door: str, given: dict[str, str], found: str, tmp_path: Path
) -> None:
    shard = tmp_path / "a.jsonl"
    shard.write_text('{"steps_with_score": []}\n')
    words = ["--input", str(shard), "--index", str(tmp_path / "index")]
    doors = {
        "bisieve": [
            "bisieve", "score", "--master", cluster.master, *as_options("--spark-conf", ON_THIS_MACHINE),
        ],
        "spark-submit": [
            "spark-submit", "--master", cluster.master, *as_options("--conf", ON_THIS_MACHINE),
            str(ROOT / "jobs/score_rollouts.py"),
        ],
    }  # fmt: skip
    program, *options = doors[door]
    done = subprocess.run(
        [BIN / program, *options, *words], env={**os.environ, "PYSPARK_PYTHON": sys.executable, **given},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    said = done.stdout + done.stderr  # spark-submit shows all that a driver says on its stdout
    place = cluster.master.removeprefix("spark://")
    (line,) = (line for line in said.splitlines() if "bisieve: error" in line)
    assert line.startswith(
        f"bisieve: error: expected the secret that the Spark master at {place} requires; found {found}; "
        "set _SPARK_AUTH_SECRET to "
    )
    assert done.returncode != 0
    assert "\tat " not in said, said
    assert "0" * 48 not in said
    if door == "bisieve":
        assert done.returncode == 2
        assert done.stderr.splitlines() == ["1 of 1 shards to scan", line]


def test_the_doctor_finds_a_cluster_with_a_lock_well(cluster: Cluster) -> None:
    done = subprocess.run(
        [BIN / "bisieve", "doctor", "--master", cluster.master],
        env={**os.environ, "_SPARK_AUTH_SECRET": SECRET}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert f"ok spark secret {cluster.master} requires it" in lines
