"""Options that several commands share."""

import argparse

import pytest

from bisieve._redact import without_secrets
from bisieve.cli.main import main
from bisieve.cli.options import spark_conf


@pytest.mark.parametrize(
    "name",
    [
        "spark.authenticate.secret",
        "spark.hadoop.fs.s3a.secret.key",
        "spark.hadoop.fs.s3a.access.key",
        "spark.hadoop.fs.s3a.session.token",
        "spark.ssl.rpc.keyPassword",
    ],
)
def test_a_secret_among_sparks_properties_is_refused_as_an_option_and_not_shown(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["score", "--input", "a", "--index", "b", "--spark-conf", f"{name}=s3cret"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert f"--spark-conf {name}=***" in said
    assert "s3cret" not in said
    assert len(said.splitlines()) == 1
    assert without_secrets(f"PYSPARK_SUBMIT_ARGS='--conf {name}=s3cret pyspark-shell'") == (
        f"PYSPARK_SUBMIT_ARGS='--conf {name}=*** pyspark-shell'"
    )


@pytest.mark.parametrize(
    "name", ["spark.authenticate.secret.file", "spark.executor.memory", "spark.kubernetes.driver.secrets.a"]
)
def test_properties_that_are_no_secrets_are_taken(name: str) -> None:
    assert spark_conf(argparse.Namespace(spark_conf=[f"{name}=/a"])) == {name: "/a"}
    assert without_secrets(f"{name}=/a") == f"{name}=/a"
