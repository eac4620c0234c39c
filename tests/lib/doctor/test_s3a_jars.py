"""The jars for ``s3a://`` must be those of Spark's Hadoop, wherever they come from."""

from pathlib import Path

import pytest

from bisieve.doctor.spark import s3a

USE = "org.apache.hadoop:hadoop-aws:3.5.0,software.amazon.awssdk:bundle:2.35.4"
VERSIONS = pytest.mark.parametrize(
    ("aws", "bundle", "state"),
    [
        ("3.5.0", "2.35.4", "ok"),
        ("3.4.1", "2.35.4", "failed"),
        ("3.5.0", "2.29.52", "failed"),
        ("3.5.0", "2.35.4-preview", "failed"),
    ],
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars/hadoop-client-api-3.5.0.jar").touch()
    return tmp_path


@VERSIONS
def test_the_jars_of_the_installation_are_looked_at(home: Path, aws: str, bundle: str, state: str) -> None:
    for jar in (f"hadoop-aws-{aws}", f"bundle-{bundle}"):
        (home / f"jars/{jar}.jar").touch()
    found = s3a(home, home / "none.conf")
    assert (found.state, found.hint) == (state, "" if state == "ok" else f"use {USE}")


@VERSIONS
@pytest.mark.parametrize(
    "line",
    [
        "spark.jars.packages org.apache.hadoop:hadoop-aws:{aws},software.amazon.awssdk:bundle:{bundle}",
        "spark.jars=/opt/hadoop-aws-{aws}.jar,s3://jars/bundle-{bundle}.jar",
    ],
)
def test_so_are_those_that_the_properties_name(
    home: Path, line: str, aws: str, bundle: str, state: str
) -> None:
    properties = home / "spark.conf"
    properties.write_text(f"{line.format(aws=aws, bundle=bundle)}\nspark.a b\n")
    assert s3a(home, properties).state == state


def test_one_of_a_wrong_version_beside_a_right_one_has_failed(home: Path) -> None:
    for jar in ("hadoop-aws-3.5.0", "bundle-2.35.4"):
        (home / f"jars/{jar}.jar").touch()
    (home / "spark.conf").write_text("spark.jars.packages org.apache.hadoop:hadoop-aws:3.4.1\n")
    assert s3a(home, home / "spark.conf").state == "failed"


def test_what_is_commented_out_is_not_named(home: Path) -> None:
    (home / "spark.conf").write_text("# spark.jars.packages org.apache.hadoop:hadoop-aws:3.4.1\n")
    found = s3a(home, home / "spark.conf").found
    assert found == "not set up; only s3a:// needs it: hadoop-aws 3.5.0, bundle 2.35.4"


def test_the_one_without_the_other_is_a_warning(home: Path) -> None:
    (home / "spark.conf").write_text("spark.jars.packages org.apache.hadoop:hadoop-aws:3.5.0\n")
    found = s3a(home, home / "spark.conf")
    assert (found.state, found.hint) == ("warning", f"name both: {USE}")
    assert "bundle missing" in found.found


def test_the_sdk_of_a_hadoop_that_is_not_known_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "jars").mkdir()
    for jar in ("hadoop-client-api-3.6.0", "hadoop-aws-3.6.0", "bundle-2.40.0"):
        (tmp_path / f"jars/{jar}.jar").touch()
    assert s3a(tmp_path, tmp_path / "none.conf").state == "warning"
