"""How often Spark tries a task; that it is said is shown on a full disk (`test_commands_on_disks`)."""

from typing import Any

import pytest
from pyspark import SparkConf

from bisieve.spark.stages import most_failures


class Context:
    """A context's master and properties; no JVM is needed for them."""

    def __init__(self, master: str, **conf: str) -> None:
        self.master = master
        self._conf = SparkConf(loadDefaults=False).setAll(
            [(name.replace("_", "."), value) for name, value in conf.items()]
        )

    def getConf(self) -> SparkConf:  # noqa: N802 - Spark's name
        return self._conf


@pytest.mark.parametrize(
    ("master", "conf", "most"),
    [
        ("local[*]", {}, 1),
        ("local", {"spark_task_maxFailures": "9"}, 1),
        ("local[2,3]", {}, 3),
        ("local[*, 5]", {}, 5),
        ("spark://host:7077", {}, 4),
        ("yarn", {"spark_task_maxFailures": "9"}, 9),
        ("local-cluster[2,1,1024]", {}, 4),
    ],
)
def test_a_task_may_fail_as_often_as_spark_lets_it(master: str, conf: dict[str, str], most: int) -> None:
    context: Any = Context(master, **conf)
    assert most_failures(context) == most
