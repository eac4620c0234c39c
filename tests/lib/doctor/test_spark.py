"""The doctor's look at Spark."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench.cluster import standalone_cluster

from bisieve.cli.main import main
from bisieve.doctor.checks import DoctorTargets
from bisieve.doctor.spark import compared, examine, secret

pytestmark = pytest.mark.spark  # standalone clusters

DOCUMENTED = Path(__file__).parents[3] / "infra/spark/s3a.conf"


def test_the_pinned_spark_names_the_jars_that_s3a_would_need() -> None:
    checks = {check.name: check for check in examine(DoctorTargets())}
    assert checks["java"].state == "ok"
    assert checks["s3a"].state == "ok"
    assert checks["s3a"].found.endswith("hadoop-aws 3.5.0, bundle 2.35.4")


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (("", ""), "ok"),
        (("hadoop-aws:3.5.0", "hadoop-aws:3.4.1"), "failed"),
        (("2.35.4", "2.29.52"), "failed"),
    ],
)
def test_a_properties_file_is_looked_at_as_spark_submit_gets_it(
    change: tuple[str, str], state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "s3a.conf"
    file.write_text(DOCUMENTED.read_text().replace(*change))
    assert main(["doctor", "--json", "--properties-file", str(file)]) == (state != "ok")
    (found,) = (check for check in json.loads(capsys.readouterr().out)["checks"] if check["name"] == "s3a")
    assert found["state"] == state
    assert "not set up" not in found["found"]


def test_a_properties_file_that_is_not_there_has_failed(tmp_path: Path) -> None:
    checks = {check.name: check for check in examine(DoctorTargets(properties_file=str(tmp_path / "none")))}
    assert (checks["s3a"].state, checks["s3a"].hint) == ("failed", "correct --properties-file")


def test_workers_are_asked_for_their_python() -> None:
    program = Path(sys.executable).with_name("bisieve")  # in this process it would end the Spark of all tests
    done = subprocess.run(
        [str(program), "doctor", "--master", "local[2]"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "1 host with Python 3." in done.stdout


def test_a_cluster_that_grants_no_executor_has_failed_after_a_while(tmp_path: Path) -> None:
    impatient = (
        "import sys; from bisieve.doctor import spark; spark.PATIENCE = 5; "
        "from bisieve.cli.main import main; sys.exit(main(['doctor', '--master', sys.argv[1]]))"
    )
    with standalone_cluster(0, tmp_path, os.environ) as cluster:
        done = subprocess.run(
            [sys.executable, "-c", impatient, cluster.master],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
    assert done.returncode == 1, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    (workers,) = (line for line in lines if "spark workers" in line)
    assert workers == (
        f"failed spark workers no answer from the executors of {cluster.master} in 5 s; "
        "see on the master's page whether it has workers with free cores and memory"
    )
    (lock,) = (line for line in lines if "spark secret" in line)
    assert lock.startswith(f"warning spark secret {cluster.master} requires no secret: anyone who")
    assert "Traceback" not in done.stderr


def test_a_master_that_takes_jobs_by_rest_is_warned_of_since_rest_knows_no_secret() -> None:
    assert secret("spark://a:7077", is_locked=True, is_rest=False).state == "ok"
    found = secret("spark://a:7077", is_locked=True, is_rest=True)
    assert (found.state, found.hint) == ("warning", "start the master with spark.master.rest.enabled=false")


def test_workers_with_another_python_or_bisieve_are_named() -> None:
    same, later = ("a", "3.11.9", "0.1.0"), ("b", "3.12.1", "0.1.0")
    assert compared("spark workers", {same}, "3.11.7", "0.1.0").state == "ok"
    found = compared("spark workers", {same, later, ("c", "3.11.7", "0.2.0")}, "3.11.7", "0.1.0")
    assert found.state == "failed"
    assert found.found.startswith("b has Python 3.12.1, bisieve 0.1.0, c has Python 3.11.7, bisieve 0.2.0;")
