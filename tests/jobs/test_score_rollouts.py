import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bisieve.index import open_index

ROOT = Path(__file__).parents[2]


def spark_submit(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """Runs the entry point as a cluster user does."""
    command = [
        Path(sys.executable).with_name("spark-submit"),
        "--master",
        "local[2]",
        "--driver-java-options",
        "-XX:TieredStopAtLevel=1",
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
