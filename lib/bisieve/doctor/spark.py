"""Check Spark: Java, the jars for s3a, the environment, and the workers and secret of a cluster.

The module is loaded even where Spark is not installed, so pyspark and py4j are imported inside functions.
"""

import os
import platform
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING
from urllib.request import urlopen

import bisieve
from bisieve._text import pluralize
from bisieve.doctor.checks import Check, DoctorTargets, attempted, examined
from bisieve.errors import UsageError
from bisieve.spark.java import check_java

if TYPE_CHECKING:
    from pyspark import SparkContext

PATIENCE = 60.0  # seconds to wait for the workers' answers
_JOB = "bisieve-doctor"
_TASKS = 64  # more than enough for every worker to run one
_REST_PORT = 6066  # Spark's default port for REST submissions, which Spark 4 enables by default
_REST_ANSWER = 4096  # bytes to read, more than an answer has

# Version of hadoop-aws → version of the AWS SDK it was built with; for the Hadoop of the pinned Spark.
AWS_SDK = {"3.5.0": "2.35.4"}
_GROUPS = {"hadoop-aws": "org.apache.hadoop", "bundle": "software.amazon.awssdk"}


def examine(targets: DoctorTargets) -> Iterator[Check]:
    """Yield the checks of Spark; none if pyspark is not installed."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        return
    from bisieve.spark.environment import CHECKS, check_event_log

    yield attempted("java", lambda: Check("java", "ok", str(check_java())))
    for variable, check in CHECKS.items():
        if variable in os.environ or variable == "user":
            yield attempted(variable, partial(_fits, variable, check))
    home = Path(os.environ.get("SPARK_HOME") or Path(spec.origin).parent)
    yield attempted("s3a", lambda: s3a(home, _properties(home, targets)))
    yield attempted(
        "event log", lambda: _event_log(_read_properties(_properties(home, targets)), check_event_log)
    )
    if targets.master is not None:
        yield from examined("spark workers", lambda: _cluster, targets)


def _fits(variable: str, check: Callable[[], None]) -> Check:
    check()
    return Check(variable, "ok", os.environ.get(variable) or f"UID {os.geteuid()} has a name")


def _properties(home: Path, targets: DoctorTargets) -> Path:
    """Return the file of Spark's properties: ``properties_file`` if given, else spark-defaults.conf.

    Raises:
        UsageError: ``properties_file`` is not there.
    """
    if targets.properties_file is None:
        return Path(os.environ.get("SPARK_CONF_DIR") or home / "conf") / "spark-defaults.conf"
    file = Path(targets.properties_file)
    if not file.is_file():
        raise UsageError(f"Spark's properties in {file}", "no such file", "correct --properties-file")
    return file


def _read_properties(file: Path) -> dict[str, str]:
    """Return the properties in a file of Spark's, by name; an empty dict if there is no such file."""
    text = file.read_text() if file.is_file() else ""
    lines = [line.strip() for line in text.splitlines()]
    pairs = [re.split(r"\s*[=:\s]\s*", line, maxsplit=1) for line in lines if line and line[0] not in "#!"]
    return {pair[0]: pair[-1] for pair in pairs}


def _event_log(conf: Mapping[str, str], check: Callable[[Mapping[str, str]], None]) -> Check:
    check(conf)
    folder = conf.get("spark.eventLog.dir", "Spark's default folder")
    return Check("event log", "ok", folder if conf.get("spark.eventLog.enabled") == "true" else "not written")


def _cluster(targets: DoctorTargets) -> Iterator[Check]:
    """Check the workers of the master and, for a standalone master, its secret."""
    from bisieve.spark.session import spark_context, unwrapped_errors

    master = targets.master or ""
    with unwrapped_errors(), spark_context(master) as spark:
        yield _workers(spark, master)
        if master.startswith("spark://"):
            is_locked = spark.getConf().get("spark.authenticate") == "true"
            yield attempted("spark secret", lambda: secret(master, is_locked, takes_rest(master)))


def _workers(spark: "SparkContext", master: str) -> Check:
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    spark.setJobGroup(_JOB, "the doctor asks all workers")
    until = time.monotonic() + PATIENCE
    # Without an executor Spark would wait for ever: cancel the job instead.
    patience = Timer(PATIENCE, spark.cancelJobGroup, [_JOB])
    patience.start()
    try:
        answers = spark.parallelize(range(_TASKS), _TASKS).map(_about_worker).distinct().collect()
    except (PySparkException, Py4JJavaError):
        if time.monotonic() < until:
            raise
        return Check(
            "spark workers", "failed", f"no answer from the executors of {master} in {PATIENCE:.0f} s",
            "see on the master's page whether it has workers with free cores and memory",
        )  # fmt: skip
    finally:
        patience.cancel()
    return compared("spark workers", set(answers), platform.python_version(), bisieve.__version__)


def takes_rest(master: str) -> bool:
    """Return whether a host of ``master`` accepts jobs by Spark's REST interface, which checks no secret."""
    for place in master.removeprefix("spark://").split(","):
        url = f"http://{place.rpartition(':')[0]}:{_REST_PORT}/v1/submissions/status/none"
        try:
            with urlopen(url, timeout=5) as answer:
                return b"SubmissionStatusResponse" in answer.read(_REST_ANSWER)
        except (OSError, HTTPException):
            continue
    return False


def secret(master: str, is_locked: bool, is_rest: bool) -> Check:
    """Check the secret of a standalone master.

    Args:
        master: Its URL.
        is_locked: Whether it asks for a secret (``spark.authenticate``).
        is_rest: Whether it accepts jobs by REST, where it checks no secret.
    """
    if not is_locked:
        return Check(
            "spark secret", "warning",
            f"{master} requires no secret: anyone who reaches it may run code on its workers",
            "start its master and workers with spark.authenticate=true, as docs/how-to/secure.md has it",
        )  # fmt: skip
    if is_rest:
        return Check(
            "spark secret", "warning",
            f"{master} requires it, but takes jobs by REST on port {_REST_PORT} without it",
            "start the master with spark.master.rest.enabled=false",
        )  # fmt: skip
    return Check("spark secret", "ok", f"{master} requires it")


def _about_worker(_: int) -> tuple[str, str, str]:
    """Return the host name, Python version and bisieve version of the worker that runs this."""
    import pyarrow  # noqa: F401  every task needs it: a worker without it makes the check fail

    return socket.gethostname(), platform.python_version(), bisieve.__version__


def compared(name: str, answers: set[tuple[str, str, str]], python: str, version: str) -> Check:
    """Compare the versions of all workers with the driver's.

    Args:
        name: The name of the check.
        answers: (host, Python version, bisieve version) of each worker. Python may differ in the patch level.
        python: The driver's Python version.
        version: The driver's bisieve version.
    """
    hosts = {host for host, _, _ in answers}
    others = sorted(
        f"{host} has Python {theirs}, bisieve {package}"
        for host, theirs, package in answers
        if theirs.rsplit(".", 1)[0] != python.rsplit(".", 1)[0] or package != version
    )
    if others:
        return Check(
            name, "failed", f"{', '.join(others)}; here Python {python}, bisieve {version}",
            "give all machines the same environment (PYSPARK_PYTHON)",
        )  # fmt: skip
    return Check(name, "ok", f"{pluralize(len(hosts), 'host')} with Python {python} and bisieve {version}")


def s3a(home: Path, file: Path) -> Check:
    """Check that hadoop-aws and the AWS SDK, if configured, match the Hadoop version of Spark.

    If neither is configured, the check is ok: bisieve itself reads ``s3://`` without them.

    Args:
        home: Spark's folder; jars are looked for in its subfolder ``jars``.
        file: Spark's properties, which may name the jars; the file need not exist.
    """
    jars = home / "jars"
    hadoop = next(iter(_versions_in("hadoop-client-api", jars)), None)
    if hadoop is None:
        return Check("s3a", "warning", f"no hadoop-client-api in {jars}", "check SPARK_HOME")
    text = file.read_text() if file.is_file() else ""
    found = {jar: _versions_in(jar, jars) | _named(jar, text) for jar in _GROUPS}
    wanted = {"hadoop-aws": hadoop, **({"bundle": AWS_SDK[hadoop]} if hadoop in AWS_SDK else {})}
    use = ",".join(f"{_GROUPS[jar]}:{jar}:{version}" for jar, version in wanted.items())
    if not any(found.values()):
        needed = ", ".join(f"{jar} {version}" for jar, version in wanted.items())
        return Check("s3a", "ok", f"not set up; only s3a:// needs it: {needed}")
    said = ", ".join(f"{jar} {version}" for jar in found for version in sorted(found[jar]) or ["missing"])
    where = f"{said} in {jars} and {file}"
    if any(found[jar] - {version} for jar, version in wanted.items()):
        return Check("s3a", "failed", f"{where}, Hadoop is {hadoop}", f"use {use}")
    if not all(found.values()):  # no failure: --packages may bring the missing one as a dependency
        return Check("s3a", "warning", where, f"name both: {use}")
    if hadoop not in AWS_SDK:
        return Check("s3a", "warning", where, f"see which AWS SDK hadoop-aws {hadoop} was built with")
    return Check("s3a", "ok", said)


def _versions_in(jar: str, folder: Path) -> set[str]:
    """Return the versions of a jar in a folder."""
    names = (path.name for path in folder.glob(f"{jar}-*.jar"))
    return {match[1] for name in names if (match := re.fullmatch(rf"{jar}-(\d[\w.-]*)\.jar", name))}


def _named(jar: str, text: str) -> set[str]:
    """Return the versions of a jar in Spark's properties: ``group:jar:version`` or ``…/jar-version.jar``."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("#", "!")))
    package, file = rf"\b{re.escape(_GROUPS[jar])}:{jar}:([\w.-]+)", rf"/{jar}-(\d[\w.-]*)\.jar\b"
    return {*re.findall(package, lines), *re.findall(file, lines)}
