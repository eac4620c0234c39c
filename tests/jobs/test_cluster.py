"""``spark-submit`` to a real standalone cluster: the code comes as a wheel, the index lies on S3."""

import json
import os
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench.cluster import standalone_cluster

from bisieve.index import open_index

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has all that bisieve needs, as the machines of a cluster have it, and no bisieve."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # An editable install is a .pth file of its own, which is not read from there.
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib"))
    python = folder / "bin/python"
    assert subprocess.run([python, "-c", "import pyspark, s3fs"], cwd=folder, check=False).returncode == 0
    assert subprocess.run(
        [python, "-c", "import bisieve"], cwd=folder, capture_output=True, check=False
    ).returncode == 1  # fmt: skip
    return python


def test_a_cluster_that_is_sent_a_wheel_scores_on_all_its_machines(
    wheel: Path, python: Path, s3: str, rollout: Callable[..., Any], tmp_path: Path
) -> None:
    import s3fs

    shard = "".join(json.dumps(rollout([1.0, 0.0], question="?" * 20_000)) + "\n" for _ in range(500))
    for number in range(4):  # a task each
        s3fs.S3FileSystem().pipe(f"{s3}/cluster/shards/{number}.jsonl", shard.encode())
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "PYSPARK_PYTHON": str(python), "PYSPARK_DRIVER_PYTHON": str(python),
    }  # fmt: skip
    (tmp_path / "log").mkdir()
    conf = {
        "spark.eventLog.enabled": "true", "spark.eventLog.dir": f"file://{tmp_path / 'log'}",
        "spark.eventLog.rolling.enabled": "false", "spark.eventLog.compress": "false",
        "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
        "spark.executor.memory": "1g",
        # The first executor would do all of so small a job before the second is up.
        "spark.scheduler.minRegisteredResourcesRatio": "1",
    }  # fmt: skip
    with standalone_cluster(2, tmp_path / "cluster", environment) as cluster:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("spark-submit"), "--master", cluster.master,
                "--py-files", str(wheel),
                *(word for pair in conf.items() for word in ("--conf", "=".join(pair))),
                str(ROOT / "jobs/score_rollouts.py"),
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
