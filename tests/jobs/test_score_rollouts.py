import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bisieve.index.reader import open_index

pytestmark = pytest.mark.spark  # by spark-submit

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


class Submitted(NamedTuple):
    """A run that went well."""

    said: str
    index: Path
    events: list[dict[str, Any]]  # Spark's event log


@pytest.fixture(scope="module")
def submitted(rollout: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    """A run over a shard of 20 MB, which are three tasks, with a record at its end that is of no use."""
    folder = tmp_path_factory.mktemp("submitted")
    shard, log, index = (folder / name for name in ("a.jsonl", "log", "index"))
    records = [rollout([1.0, 0.0], question="?" * 20_000) for _ in range(1000)]
    shard.write_text("".join(json.dumps(record) + "\n" for record in [*records, rollout(image=None)]))
    log.mkdir()
    conf = ["spark.eventLog.enabled=true", f"spark.eventLog.dir=file://{log}"]
    plain = [
        "spark.eventLog.rolling.enabled=false",
        "spark.eventLog.compress=false",
        "spark.shuffle.compress=true",
    ]
    done = spark_submit("--input", shard, "--index", index, conf=[*conf, *plain])
    assert done.returncode == 0, done.stderr[-3000:]
    (events,) = log.iterdir()
    return Submitted(done.stdout, index, [json.loads(line) for line in events.read_text().splitlines()])


def test_spark_submit_writes_the_index_and_reports(submitted: Submitted) -> None:
    assert open_index(str(submitted.index)).manifest.rollouts == 1000
    assert "rejected 1 no_image (first: file://" in submitted.said


def test_what_spark_submit_is_given_wins_over_the_values_that_are_set_otherwise(submitted: Submitted) -> None:
    (environment,) = (one for one in submitted.events if one["Event"] == "SparkListenerEnvironmentUpdate")
    properties = dict(environment["Spark Properties"])
    assert properties["spark.shuffle.compress"] == "true"
    assert properties["spark.shuffle.sort.bypassMergeThreshold"] == "1"


def test_spark_submit_ends_with_one_line_and_a_code_when_there_is_nothing_to_score(tmp_path: Path) -> None:
    done = spark_submit("--input", tmp_path / "typo", "--index", tmp_path / "index")
    assert done.returncode == 1
    assert "bisieve: error: expected a file or folder at" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_sparks_event_log_tells_the_stages_apart_and_what_their_tasks_did(submitted: Submitted) -> None:
    stage_of = {
        number: job["Properties"]["spark.job.description"].split(":")[0]
        for job in submitted.events
        if job["Event"] == "SparkListenerJobStart"
        for number in job["Stage IDs"]
    }
    assert set(stage_of.values()) == {"bisieve scan", "bisieve write"}
    tasks = [event for event in submitted.events if event["Event"] == "SparkListenerTaskEnd"]
    scans = [task["Task Metrics"] for task in tasks if stage_of[task["Stage ID"]] == "bisieve scan"]
    assert len(scans) == 3
    assert all(metrics["Executor Run Time"] > 0 for metrics in scans)
    assert sum(task["Task Metrics"]["Shuffle Write Metrics"]["Shuffle Bytes Written"] for task in tasks) > 0
