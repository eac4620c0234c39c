import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bisieve.index import open_index

ROOT = Path(__file__).parents[2]


def spark_submit(*arguments: Any, conf: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Runs the entry point as a cluster user does; ``conf`` are pairs KEY=VALUE."""
    command = [
        Path(sys.executable).with_name("spark-submit"),
        "--master",
        "local[2]",
        "--driver-java-options",
        "-XX:TieredStopAtLevel=1",
        *(word for pair in conf for word in ("--conf", pair)),
    ]
    return subprocess.run(
        [*map(str, command), str(ROOT / "jobs/score_rollouts.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable},
    )


@pytest.fixture
def shard(write_jsonl: Callable[..., Path], rollout: Callable[..., Any]) -> Path:
    return write_jsonl("corpus/a.jsonl", [rollout(), rollout([1.0]), rollout(image=None)])


def test_spark_submit_writes_the_index_and_reports(shard: Path, tmp_path: Path) -> None:
    done = spark_submit("--input", shard, "--index", tmp_path / "index")
    assert done.returncode == 0, done.stderr[-3000:]
    assert open_index(str(tmp_path / "index")).manifest.rollouts == 2
    assert "rejected 1 no_image (first: file://" in done.stdout


def test_spark_submit_ends_with_one_line_and_a_code_when_there_is_nothing_to_score(tmp_path: Path) -> None:
    done = spark_submit("--input", tmp_path / "typo", "--index", tmp_path / "index")
    assert done.returncode == 1
    assert "bisieve: error: expected a file or folder at" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_sparks_event_log_tells_the_stages_apart_and_what_their_tasks_did(
    write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    records = [rollout([1.0, 0.0], question="?" * 20_000) for _ in range(1000)]  # 20 MB: three tasks
    write_jsonl("corpus/a.jsonl", [*records, rollout(image=None)])
    (tmp_path / "log").mkdir()
    conf = ["spark.eventLog.enabled=true", f"spark.eventLog.dir=file://{tmp_path / 'log'}"]
    plain = ["spark.eventLog.rolling.enabled=false", "spark.eventLog.compress=false"]
    done = spark_submit("--input", tmp_path / "corpus", "--index", tmp_path / "index", conf=[*conf, *plain])
    assert done.returncode == 0, done.stderr[-3000:]
    (log,) = (tmp_path / "log").iterdir()
    events = [json.loads(line) for line in log.read_text().splitlines()]
    stage_of = {
        number: job["Properties"]["spark.job.description"].split(":")[0]
        for job in events
        if job["Event"] == "SparkListenerJobStart"
        for number in job["Stage IDs"]
    }
    assert set(stage_of.values()) == {"bisieve scan", "bisieve write"}
    tasks = [event for event in events if event["Event"] == "SparkListenerTaskEnd"]
    scans = [task["Task Metrics"] for task in tasks if stage_of[task["Stage ID"]] == "bisieve scan"]
    assert len(scans) == 3
    assert all(metrics["Executor Run Time"] > 0 for metrics in scans)
    assert sum(task["Task Metrics"]["Shuffle Write Metrics"]["Shuffle Bytes Written"] for task in tasks) > 0
