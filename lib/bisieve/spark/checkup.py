"""The doctor's look at Spark: Java, the jars for s3a, and the workers of a cluster.

It is called even where Spark is not installed: nothing of Spark is imported before it is known to be there.
"""

import os
import platform
import re
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import bisieve
from bisieve.doctor.check import Check, Patient, attempted
from bisieve.spark.java import check_java
from bisieve.wording import counted

_TASKS = 64  # more than enough for every worker to get one


def examine(patient: Patient) -> Iterator[Check]:
    """The checks of a machine that has Spark."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        return
    yield attempted("java", lambda: Check("java", "ok", str(check_java())))
    home = Path(os.environ.get("SPARK_HOME") or Path(spec.origin).parent)
    yield s3a(home, Path(os.environ.get("SPARK_CONF_DIR") or home / "conf"))
    if patient.master is not None:
        master = patient.master
        yield attempted("spark workers", lambda: _workers(master))


def s3a(home: Path, conf: Path) -> Check:
    """Whether what Spark is to read ``s3a://`` with, if anything, fits its Hadoop.

    bisieve needs it not: it reads and writes S3 in Python.
    """
    hadoop = _version_of("hadoop-client-api", home / "jars")
    if hadoop is None:
        return Check("s3a", "warning", f"no hadoop-client-api in {home / 'jars'}", "check SPARK_HOME")
    wanted = f"org.apache.hadoop:hadoop-aws:{hadoop}"
    defaults = conf / "spark-defaults.conf"
    text = defaults.read_text() if defaults.is_file() else ""
    found = _version_of("hadoop-aws", home / "jars")
    named = re.search(r"org\.apache\.hadoop:hadoop-aws:([\w.-]+)", text)
    given = found or (named[1] if named else None)
    if given is None:
        return Check("s3a", "ok", f"not set up; s3:// works without, s3a:// needs {wanted}")
    if given != hadoop:
        where = home / "jars" if found else defaults
        return Check("s3a", "failed", f"hadoop-aws {given} in {where}, Hadoop is {hadoop}", f"use {wanted}")
    return Check("s3a", "ok", wanted)


def _version_of(jar: str, folder: Path) -> str | None:
    names = [path.name for path in folder.glob(f"{jar}-*.jar")]
    found = [re.fullmatch(rf"{jar}-(\d[\w.]*)\.jar", name) for name in names]
    return next((match[1] for match in found if match), None)


def _workers(master: str) -> Check:
    from bisieve.spark.session import spark_context, unwrapped_errors

    with unwrapped_errors(), spark_context(master) as spark:
        answers = spark.parallelize(range(_TASKS), _TASKS).map(_about_worker).distinct().collect()
    return compared("spark workers", set(answers), platform.python_version(), bisieve.__version__)


def _about_worker(_: int) -> tuple[str, str, str]:
    """Host, Python's version and bisieve's, of the worker that runs this."""
    import pyarrow  # noqa: F401  what every task needs

    return socket.gethostname(), platform.python_version(), bisieve.__version__


def compared(name: str, answers: set[tuple[str, str, str]], python: str, version: str) -> Check:
    """Workers, each as (host, Python, bisieve), against the driver's."""
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
    return Check(name, "ok", f"{counted(len(hosts), 'host')} with Python {python} and bisieve {version}")
