"""``bisieve score`` where Spark cannot start: one line that names what is wrong, and no frame of a stack."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bisieve.doctor.checks import DoctorTargets
from bisieve.doctor.spark import examine

pytestmark = pytest.mark.spark  # JVMs that do not start

BISIEVE = str(Path(sys.executable).with_name("bisieve"))
JAVA_FRAME = re.compile(r"\.java:\d+|\.scala:\d+|\d+ more|JAVA_GATEWAY_EXITED|Traceback|\bat [\w.$/]+\(")

# What is set, how the line begins; none of these starts a JVM.
VARIABLES = {
    "SPARK_HOME=/opt/nope": "a Spark with bin/spark-submit at SPARK_HOME; found SPARK_HOME='/opt/nope'",
    "SPARK_HOME=": "a Spark with bin/spark-submit at SPARK_HOME; found SPARK_HOME set to nothing",
    "PYSPARK_PYTHON=/opt/nope/python": r"Python 3\.\d+ at PYSPARK_PYTHON=/opt/nope/python; found no program",
    "PYSPARK_PYTHON=/bin/echo": r"Python 3\.\d+ at PYSPARK_PYTHON=/bin/echo; found Python -c import sys",
    "PYSPARK_SUBMIT_ARGS=--verbose": "PYSPARK_SUBMIT_ARGS that end with pyspark-shell; found '--verbose'",
    "SPARK_LOCAL_DIRS=/dev/null": "a folder that can be written at SPARK_LOCAL_DIRS=/dev/null; found",
    "JAVA_HOME=/opt/nope": "Java 17 or newer for Spark; found no java at /opt/nope/bin/java; unset JAVA_HOME",
    "JAVA_TOOL_OPTIONS=--nonsense": "a Java that starts; found Unrecognized option: --nonsense; correct",
}
OPTIONS = {
    "--master local[x]": r"--master local, local\[N\] or local\[\*\]; found local\[x\]",
    "--master spark://127.0.0.1:1": "a Spark master at spark://127.0.0.1:1; found .*refused; check --master",
    "--spark-conf spark.eventLog.enabled=true --spark-conf spark.eventLog.dir=/opt/nope": (
        "a folder at spark.eventLog.dir=/opt/nope; found nothing; create it"
    ),
}
# These can only be shown by a JVM.
OF_A_JVM = {
    "--spark-conf spark.eventLog.enabled=true --spark-conf spark.eventLog.dir=s3a://bucket/log": (
        "a Spark that starts; found .*S3AFileSystem not found; correct .*spark.eventLog.dir=s3a://bucket/log"
    ),
    "--spark-conf spark.driver.port={port} --spark-conf spark.port.maxRetries=0": (
        "a Spark that starts; found .*Address already in use.*; correct .*spark.driver.port={port}"
    ),
}


@pytest.fixture
def refused(
    write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> Callable[..., str]:
    """Score a shard with some options and environment, and return the one line of the error."""
    shard = write_jsonl("a.jsonl", [rollout()])

    def score(*options: str, before: tuple[str, ...] = (), **environment: str) -> str:
        words = ["--engine", "spark", "--input", str(shard), "--index", str(tmp_path / "index")]
        command = [*before, BISIEVE, "score", *words]
        done = subprocess.run(
            [*command, *options], env={**os.environ, **environment}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        *others, line = done.stderr.splitlines()
        assert (done.returncode, others, done.stdout) == (2, ["1 of 1 shards to scan"], ""), done.stderr
        assert not JAVA_FRAME.search(done.stderr)
        assert not (tmp_path / "index").exists()
        return line.removeprefix("bisieve: error: expected ")

    return score


@pytest.mark.parametrize("setting", VARIABLES)
def test_a_variable_that_spark_cannot_start_with_is_named(setting: str, refused: Callable[..., str]) -> None:
    name, _, value = setting.partition("=")
    assert re.match(VARIABLES[setting], refused(**{name: value}))


def test_a_user_without_a_name_is_named(refused: Callable[..., str]) -> None:
    line = refused(before=("unshare", "-U", "--map-user=12345", "--map-group=12345"))
    assert line.startswith("a user with a name, which Spark's Hadoop asks for; found UID 12345, which is not")


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options.split()[-1])
def test_an_option_that_spark_cannot_start_with_is_named(options: str, refused: Callable[..., str]) -> None:
    assert re.match(OPTIONS[options], refused(*options.split()))


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("options", OF_A_JVM, ids=lambda options: options.split()[-1].split("=")[0])
def test_what_a_jvm_does_not_start_with_is_its_innermost_reason(
    options: str, refused: Callable[..., str], taken_port: int
) -> None:
    line = refused(*options.format(port=taken_port).split())
    assert re.match(OF_A_JVM[options].format(port=taken_port), line), line


@pytest.mark.parametrize("setting", VARIABLES)
def test_the_doctor_fails_on_each_variable(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, value = setting.partition("=")
    monkeypatch.setenv(name, value)
    failed = [check for check in examine(DoctorTargets()) if check.state == "failed"]
    assert [check.name for check in failed] == ["java" if name.startswith("JAVA") else name]
    assert name in f"{failed[0].found} {failed[0].hint}"


def test_the_doctor_fails_on_a_folder_of_event_logs_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "spark.conf"
    file.write_text("# a comment\nspark.eventLog.enabled true\nspark.eventLog.dir=/opt/nope\n")
    (check,) = (c for c in examine(DoctorTargets(properties_file=str(file))) if c.name == "event log")
    assert (check.state, check.found) == (
        "failed",
        "expected a folder at spark.eventLog.dir=/opt/nope; found nothing",
    )
