"""What a user reads when Spark cannot start."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from py4j.protocol import Py4JNetworkError

from bisieve.errors import CorpusError, UsageError
from bisieve.spark.java import check_java
from bisieve.spark.session import unwrapped_errors

pytestmark = pytest.mark.spark  # sessions of its own

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["none", "8"])
def java_home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A JAVA_HOME with no Java, or with one that is too old."""
    if request.param == "8":
        java = tmp_path / "bin" / "java"
        java.parent.mkdir()
        java.write_text("#!/bin/sh\necho 'openjdk version \"8.0.392\"' >&2\n")
        java.chmod(java.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def test_a_missing_or_old_java_is_one_line(java_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(java_home))
    with pytest.raises(UsageError, match=r"expected Java 17 or newer.*apt-get install openjdk"):
        check_java()


def test_make_looks_for_java_before_it_makes_an_environment(java_home: Path) -> None:
    command = ["make", "test", f"VENV={java_home / 'venv'}", f"PYTHON={sys.executable}"]
    environment = {**os.environ, "JAVA_HOME": str(java_home)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "expected Java 17 or newer for Spark; found" in done.stderr
    assert not (java_home / "venv").exists()


@pytest.mark.parametrize(
    "options",
    [["--master", "nonsense"], ["--spark-conf", "spark.driver.memory=lots"]],
    ids=lambda words: words[0],
)
def test_a_spark_that_cannot_start_is_one_line(options: list[str], tmp_path: Path) -> None:
    shard = tmp_path / "a.jsonl"
    shard.write_text('{"steps_with_score": []}\n')
    done = subprocess.run(
        [str(Path(sys.executable).with_name("bisieve")), "score", "--input", str(shard),
         "--index", str(tmp_path / "index"), *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert "bisieve: error: expected" in done.stderr
    assert options[-1].split("=")[-1] in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "index").exists()


def test_a_spark_that_goes_down_is_one_line() -> None:
    with (
        pytest.raises(CorpusError, match="found that its JVM has exited: Answer from Java side"),
        unwrapped_errors(),
    ):
        raise Py4JNetworkError("Answer from Java side is empty")
