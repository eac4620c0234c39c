"""``infra/spark`` and ``infra/examples``: their settings are those that the pinned Spark knows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyspark
import pytest

from bisieve.doctor.spark import AWS_SDK

INFRA = Path(__file__).parents[2] / "infra"
FILES = [*INFRA.glob("spark/*"), *INFRA.glob("examples/*.conf"), *INFRA.glob("examples/*.jsonc")]
# Spark keeps these outside of the list of its settings, or takes any name behind them.
_FREE = ("spark.master", "spark.hadoop.", "spark.executorEnv.", "spark.yarn.appMasterEnv.")
_REGISTERS = (
    "org.apache.spark.internal.config.package$",
    "org.apache.spark.deploy.k8s.Config$",
    "org.apache.spark.deploy.yarn.config.package$",
)


def settings(file: Path) -> dict[str, str]:
    """Spark's settings in a properties file, EMR's configuration or a Databricks job."""
    if file.suffix == ".conf":
        lines = [re.split(r"\s+", line, maxsplit=1) for line in file.read_text().splitlines()]
        return {name: rest[0] for name, *rest in lines if name and not name.startswith("#")}
    comment, _, job = file.read_text().partition("\n")
    assert comment.startswith("// ")
    return dict(_named(json.loads(job)))


def _named(value: Any) -> Iterator[tuple[str, str]]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict):
        yield from ((name, found) for name, found in value.items() if name.startswith("spark."))
    for part in parts:
        yield from _named(part)


@pytest.mark.parametrize("file", sorted(FILES), ids=lambda file: file.name)
def test_spark_knows_every_setting(spark: Any, file: Path) -> None:
    for name in _REGISTERS:
        spark._jvm.java.lang.Class.forName(name)  # which lists its settings
    find = spark._jvm.org.apache.spark.internal.config.ConfigEntry.findEntry
    assert find("spark.a.typo") is None
    found = settings(file)
    assert found
    assert [name for name in found if not name.startswith(_FREE) and find(name) is None] == []


def test_the_jar_of_s3a_is_of_the_version_of_sparks_own_hadoop() -> None:
    (jar,) = (Path(pyspark.__file__).parent / "jars").glob("hadoop-client-api-*.jar")
    hadoop = jar.stem.removeprefix("hadoop-client-api-")
    packages = settings(INFRA / "spark/s3a.conf")["spark.jars.packages"].split(",")
    assert packages[0] == f"org.apache.hadoop:hadoop-aws:{hadoop}"
    assert packages[1] == f"software.amazon.awssdk:bundle:{AWS_SDK[hadoop]}"
