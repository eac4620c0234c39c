"""Start a Spark context (`spark_context`), stop it on Ctrl-C, and translate the errors of its tasks."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError, Py4JNetworkError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException

from bisieve import errors
from bisieve._redact import without_secrets
from bisieve.errors import BisieveError, CorpusError, DiskError, UsageError
from bisieve.io.errors import says_full
from bisieve.spark.environment import check_environment, check_master
from bisieve.spark.java import innermost, started_gateway
from bisieve.spark.secret import add_secret

_LOG4J = Path(__file__).with_name("log4j2.properties")
_MASTERS = ("local", "spark://", "yarn", "k8s://")
# Java only passes on bytes that Python writes and reads.  For that its second compiler (C2) takes more time
# than it saves, and its default collector (G1) puts every big array into regions of its own.
_ONE_COMPILER = "-XX:TieredStopAtLevel=1"
_COLLECTOR = "-XX:+UseSerialGC" if (os.cpu_count() or 1) <= 4 else "-XX:+UseParallelGC"
_DRIVER_JAVA = f"{_ONE_COMPILER} {_COLLECTOR} -Dlog4j2.configurationFile=file:{_LOG4J}"
_PACKAGES = (".zip", ".egg", ".jar", ".whl")
_LOCAL_CONF = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "3g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.python.daemon.module": "bisieve.spark.daemon",
}

# By default glibc returns large blocks to the system at once, and the page faults of allocating them again
# slow a scan by a tenth.
_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**30)}
_EVERYWHERE = {
    # Over TCP, the JVM and a Python worker wait 40 ms for each other in every task.
    "spark.python.unix.domain.socket.enabled": "true",
    "spark.driver.maxResultSize": "0",  # no limit but memory: the driver gets the rows of a selection
    "spark.shuffle.compress": "false",  # shuffled values are compressed already
    # 1: a map task writes all partitions into one file.  By default, with few partitions, it first writes a
    # file for each, which costs 2 ms, and there are thousands.
    "spark.shuffle.sort.bypassMergeThreshold": "1",
    "spark.executor.extraJavaOptions": f"{_ONE_COMPILER} -XX:+UseParallelGC",
    **{f"spark.executorEnv.{name}": value for name, value in _KEEP_MEMORY.items()},
}


@contextmanager
def spark_context(master: str | None = None, conf: Mapping[str, str] | None = None) -> Iterator[SparkContext]:
    """Start a Spark context, and stop it at the end of the block.

    In a process that spark-submit started, the context is in the JVM of spark-submit.  Ctrl-C is held back
    while Spark starts and stops, see `Interrupts`.

    Args:
        master: ``local[N]``, ``spark://…``, ``yarn`` or ``k8s://…``.  By default that of spark-submit, or
            without spark-submit ``local[*]``.
        conf: Spark properties; they override all others.

    Raises:
        UsageError: The environment or ``master`` has a fault (see `environment`), or Spark does not start.
    """
    if master is not None and not master.startswith(_MASTERS):
        raise UsageError(f"a --master that begins with {', '.join(_MASTERS)}", master, "such as local[4]")
    is_submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # set by spark-submit, whose JVM started this process
    if is_submitted:
        SparkContext._ensure_initialized()  # so that SparkConf() includes the properties of spark-submit
    options = SparkConf().setAppName("bisieve score")
    for name, value in _EVERYWHERE.items():
        options.setIfMissing(name, value)
    if not is_submitted:  # with spark-submit, Java runs already
        check_environment(conf or {}, is_local=master is None or master.startswith("local"))
        check_master(master or "")
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        options.setMaster(master or "local[*]")
        options.set("spark.driver.extraJavaOptions", _DRIVER_JAVA)
        if master is None or master.startswith("local"):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            options.setAll(list(_LOCAL_CONF.items()))
            for key, value in _KEEP_MEMORY.items():
                os.environ.setdefault(key, value)
    elif master is not None:
        options.setMaster(master)
    options.setAll(list((conf or {}).items()))
    # A wheel is a zip file, and --py-files accepts it; but without this, executors do not import from files
    # with the suffix .whl.
    SparkContext.PACKAGE_EXTENSIONS = _PACKAGES
    with Interrupts() as interrupts:
        context = _started(options, _given(master, conf or {}))
        interrupts.let_through()
        try:
            yield context
        finally:
            interrupts.hold()
            # Stopping may fail on a connection that Ctrl-C has broken; the JVM ends with this process anyway.
            with suppress(Exception) if interrupts.came else nullcontext():
                context.stop()


def _started(options: SparkConf, given: str) -> SparkContext:
    """Return the context; raise `UsageError` with Spark's reason and a hint at ``given`` if none starts."""
    hint = f"correct {given}" if given else "check the environment of this machine with bisieve doctor"
    if SparkContext._gateway is None:
        SparkContext._ensure_initialized(gateway=started_gateway(options, hint))
    try:
        if SparkContext._active_spark_context is None:
            add_secret(options, SparkContext._jvm)
        return SparkContext.getOrCreate(options)
    except (PySparkException, Py4JError) as error:
        raise UsageError(
            "a Spark that starts", innermost(str(error)) or type(error).__name__, hint
        ) from error


def _given(master: str | None, conf: Mapping[str, str]) -> str:
    """Return the options and variables with which the user has configured Spark, as text without secrets."""
    options = [f"--master {master}"] if master else []
    options += [f"--spark-conf {name}={value}" for name, value in conf.items()]
    options += [name for name in ("PYSPARK_SUBMIT_ARGS", "SPARK_CONF_DIR") if name in os.environ]
    return without_secrets(", ".join(options))


@contextmanager
def unwrapped_errors() -> Iterator[None]:
    """Translate errors of Spark in the block.

    Raises:
        BisieveError: One that a task raised, as the same class.
        DiskError: Spark's local folders are full.
        CorpusError: Any other failure of a job or of the JVM, with its innermost reason.
    """
    try:
        yield
    except (Py4JNetworkError, ConnectionError) as error:
        raise CorpusError(
            "a running Spark", f"that its JVM has exited: {error}", "see Spark's own log"
        ) from error
    except (PySparkException, Py4JJavaError) as error:
        raise reported_error(str(error)) from error


def reported_error(report: str) -> BisieveError:
    """Return the `BisieveError` that a task's report ends with, else one with the report's innermost reason.

    Args:
        report: Text of Spark's error, with the tracebacks of Java and of the Python worker.
    """
    # Spark passes on the worker's traceback as text; its last lines name the exception.
    for line in reversed(report.splitlines()):
        name, _, message = line.strip().partition(": ")
        kind = getattr(errors, name.removeprefix("bisieve.errors."), None)
        parts = message.split("; ")
        if isinstance(kind, type) and issubclass(kind, BisieveError) and len(parts) >= 3:
            expected, *found, hint = parts
            return kind(expected.removeprefix("expected "), "; ".join(found).removeprefix("found "), hint)
    said = innermost(report)
    if says_full(said):
        return DiskError(
            "free disk space for Spark's temporary files", said,
            "free space in its local folders, or name others: SPARK_LOCAL_DIRS=FOLDER",
        )  # fmt: skip
    return CorpusError("a successful Spark job", said, "see Spark's own log")


class Interrupts:
    """Handler of Ctrl-C (SIGINT): held back while Spark starts and stops, raised at once in between.

    If Spark is interrupted while it starts, its JVM keeps running.  If it is interrupted while a job runs, it
    logs dying workers and broken connections; since Ctrl-C is the reason, log lines of py4j and of the root
    logger are suppressed.  Outside of the main thread this does nothing.
    """

    def __init__(self) -> None:
        self.came = False
        self._held = True
        self._before: Any = None

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._take_over()
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self.came:
            raise KeyboardInterrupt

    def let_through(self) -> None:
        """From now on, raise `KeyboardInterrupt` on Ctrl-C; at once if it came already."""
        self._held = False
        if self._before is not None:
            self._take_over()  # Spark's start has set its own handler, which first calls the JVM
        if self.came:
            raise KeyboardInterrupt

    def hold(self) -> None:
        """From now on, only remember Ctrl-C; it is raised at the end of the block."""
        self._held = True

    def _take_over(self) -> None:
        before = signal.signal(signal.SIGINT, self._on_interrupt)
        self._before = self._before or before

    def _on_interrupt(self, number: int, frame: object) -> None:
        self.came = True
        # py4j logs tracebacks of the calls that are interrupted, some of them to the root logger.
        logging.getLogger().addFilter(lambda record: False)
        logging.getLogger("py4j").setLevel(logging.CRITICAL)
        if not self._held:
            raise KeyboardInterrupt
