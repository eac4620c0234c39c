"""The Spark session: the one that spark-submit made, or a local one for one machine."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from bisieve import errors
from bisieve.errors import BisieveError, CorpusError, UsageError
from bisieve.spark.java import check_java

_LOG4J = Path(__file__).with_name("log4j2.properties")
_MASTERS = ("local", "spark://", "yarn", "k8s://")
_LOCAL_CONF = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "3g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": str(max(8, 2 * (os.cpu_count() or 1))),
    # A local job lasts seconds to minutes: the JVM's second compiler would take more time than it saves.
    "spark.driver.extraJavaOptions": f"-XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile=file:{_LOG4J}",
}


@contextmanager
def spark_session(master: str | None = None, conf: Mapping[str, str] | None = None) -> Iterator[SparkSession]:
    """A session that ends with the block.

    Under spark-submit its master and configuration rule; otherwise ``master``, ``local[*]`` by default.
    `UsageError` where there is no Java, or no such kind of master.
    """
    if master is not None and not master.startswith(_MASTERS):
        raise UsageError(f"a --master that begins with {', '.join(_MASTERS)}", master, "such as local[4]")
    logging.getLogger("py4j").setLevel(logging.CRITICAL)  # it logs a traceback for Ctrl-C in a call
    builder = SparkSession.builder.appName("bisieve score")
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # set by spark-submit, which has checked its own Java
        check_java()
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = builder.master(master or "local[*]")
        if master is None or master.startswith("local"):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            for key, value in _LOCAL_CONF.items():
                builder = builder.config(key, value)
    elif master is not None:
        builder = builder.master(master)
    for key, value in (conf or {}).items():
        builder = builder.config(key, value)
    with _interrupts_held():
        spark = builder.getOrCreate()
    try:
        yield spark
    finally:
        spark.stop()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds Ctrl-C back until the block ends: a Spark interrupted while it starts leaves its JVM behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


@contextmanager
def unwrapped_errors() -> Iterator[None]:
    """Brings a `BisieveError` that a Spark task raised back as itself; the rest becomes one line."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        raise _unwrap(str(error)) from error


def _unwrap(report: str) -> BisieveError:
    # Spark hands over the worker's traceback as text; its last lines name the exception.
    for line in reversed(report.splitlines()):
        name, _, message = line.strip().partition(": ")
        kind = getattr(errors, name.removeprefix("bisieve.errors."), None)
        parts = message.split("; ")
        if isinstance(kind, type) and issubclass(kind, BisieveError) and len(parts) >= 3:
            expected, *found, mend = parts
            return kind(expected.removeprefix("expected "), "; ".join(found).removeprefix("found "), mend)
    lines = [line for line in report.strip().splitlines() if line.strip()]
    return CorpusError("a Spark job that ends well", " ".join(lines[-3:])[-400:], "see Spark's own log")
