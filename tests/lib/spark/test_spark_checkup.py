"""The doctor's look at Spark."""

import subprocess
import sys
from pathlib import Path

import pytest

from bisieve.doctor.check import Patient
from bisieve.spark.checkup import compared, examine, s3a

WANTED = "org.apache.hadoop:hadoop-aws:3.5.0"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars/hadoop-client-api-3.5.0.jar").touch()
    return tmp_path


def test_the_pinned_spark_names_the_jar_that_s3a_would_need() -> None:
    checks = {check.name: check for check in examine(Patient())}
    assert checks["java"].state == "ok"
    assert checks["s3a"].state == "ok"
    assert checks["s3a"].found.endswith(WANTED)


@pytest.mark.parametrize(("version", "state"), [("3.5.0", "ok"), ("3.4.1", "failed")])
def test_a_jar_for_s3a_must_be_of_the_version_of_hadoop(home: Path, version: str, state: str) -> None:
    (home / f"jars/hadoop-aws-{version}.jar").touch()
    assert s3a(home, home / "conf").state == state


@pytest.mark.parametrize(("version", "state"), [("3.5.0", "ok"), ("3.4.1", "failed")])
def test_so_must_one_that_the_configuration_names(home: Path, version: str, state: str) -> None:
    (home / "conf").mkdir()
    (home / "conf/spark-defaults.conf").write_text(
        f"spark.jars.packages org.apache.hadoop:hadoop-aws:{version}\n"
    )
    found = s3a(home, home / "conf")
    assert (found.state, found.mend) == (state, "" if state == "ok" else f"use {WANTED}")


def test_workers_are_asked_for_their_python() -> None:
    program = Path(sys.executable).with_name("bisieve")  # in this process it would end the Spark of all tests
    done = subprocess.run(
        [str(program), "doctor", "--master", "local[2]"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "1 host with Python 3." in done.stdout


def test_workers_with_another_python_or_bisieve_are_named() -> None:
    same, later = ("a", "3.11.9", "0.1.0"), ("b", "3.12.1", "0.1.0")
    assert compared("spark workers", {same}, "3.11.7", "0.1.0").state == "ok"
    found = compared("spark workers", {same, later, ("c", "3.11.7", "0.2.0")}, "3.11.7", "0.1.0")
    assert found.state == "failed"
    assert found.found.startswith("b has Python 3.12.1, bisieve 0.1.0, c has Python 3.11.7, bisieve 0.2.0;")
