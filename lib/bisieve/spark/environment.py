"""Checks of the environment that Spark starts in, so that each error names the variable at fault.

`check_environment` runs all of them but `check_master`; `CHECKS` are those that bisieve doctor reports.
"""

import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pyspark

from bisieve.errors import StorageError, UsageError
from bisieve.io.storage import require_writable
from bisieve.spark.java import check_java

# The local masters that Spark accepts: local, local[N], local[*], local[N,FAILURES], local-cluster[…].
_LOCAL = re.compile(r"local|local\[([1-9]\d*|\*)(\s*,\s*\d+)?\s*\]|local-cluster\[.+\]")
_SHELL = "pyspark-shell"  # the word that makes spark-submit start a gateway for Python


def check_environment(conf: Mapping[str, str], is_local: bool = True) -> None:
    """Raise `UsageError` for the first fault of the environment.

    Args:
        conf: The user's Spark properties.
        is_local: Also check the Python of the workers and the local folders, which are this machine's.
    """
    check_java()
    check_user()
    check_home()
    check_submit_args()
    check_event_log(conf)
    if is_local:
        check_python(conf)
        check_local_dirs(conf)


def check_home() -> None:
    """Raise `UsageError` if SPARK_HOME is set and has no Spark, or one of another version than pyspark."""
    home = os.environ.get("SPARK_HOME")
    if home is None:
        return
    hint = f"unset SPARK_HOME: pyspark {pyspark.__version__} brings its own Spark"
    if not home or not (Path(home) / "bin" / "spark-submit").is_file():
        found = f"SPARK_HOME={home!r}, which has none" if home else "SPARK_HOME set to nothing"
        raise UsageError("a Spark with bin/spark-submit at SPARK_HOME", found, hint)
    cores = [jar.stem.rpartition("-")[2] for jar in Path(home, "jars").glob("spark-core_*.jar")]
    if cores and pyspark.__version__ not in cores:
        raise UsageError(f"Spark {pyspark.__version__} at SPARK_HOME={home}", f"Spark {cores[0]}", hint)


def check_python(conf: Mapping[str, str]) -> None:
    """Raise `UsageError` if the Python of Spark's workers cannot run or has another version than this one."""
    variable = "spark.pyspark.python" if "spark.pyspark.python" in conf else "PYSPARK_PYTHON"
    python = conf.get(variable) or os.environ.get("PYSPARK_PYTHON")
    if python is None or python == sys.executable:
        return
    ours = "{}.{}".format(*sys.version_info)
    expected, hint = f"Python {ours} at {variable}={python}", f"unset it, or set it to {sys.executable}"
    if shutil.which(python) is None:
        raise UsageError(expected, "no program there", hint)
    ask = [python, "-c", "import sys; print('{}.{}'.format(*sys.version_info))"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(expected, str(error), hint) from error
    found = answer.stdout.strip()
    if answer.returncode or found != ours:
        said = (answer.stderr.strip().splitlines() or ["no output"])[-1]
        raise UsageError(expected, said if answer.returncode else f"Python {found}"[:200], hint)


def check_event_log(conf: Mapping[str, str]) -> None:
    """Raise `UsageError` if Spark's event log is on and its local folder is missing or cannot be written."""
    folder = conf.get("spark.eventLog.dir", "file:/tmp/spark-events")  # Spark's default
    path = Path(re.sub("^file:(//(?=/))?", "", folder))
    if conf.get("spark.eventLog.enabled") != "true" or ":" in folder.removeprefix("file:"):
        return
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise UsageError(f"a folder at spark.eventLog.dir={folder}", found, "create it, or name another")
    try:
        require_writable(str(path.absolute()))
    except StorageError as error:
        raise UsageError(
            f"a folder that can be written at spark.eventLog.dir={folder}", *error.args[1:]
        ) from error


def check_local_dirs(conf: Mapping[str, str]) -> None:
    """Raise `UsageError` if Spark can write into none of its local folders.

    Its JVM would end without a message.
    """
    variable = "SPARK_LOCAL_DIRS" if "SPARK_LOCAL_DIRS" in os.environ else "spark.local.dir"
    folders = os.environ.get("SPARK_LOCAL_DIRS") or conf.get("spark.local.dir")
    reasons = []
    for folder in folders.split(",") if folders else ():
        try:
            require_writable(os.path.abspath(folder.strip()))
            return
        except StorageError as error:
            reasons.append(f"{folder}: {error.args[1]}")
    if reasons:
        raise UsageError(
            f"a folder that can be written at {variable}={folders}", "; ".join(reasons),
            "correct it, or leave it out",
        )  # fmt: skip


def check_submit_args() -> None:
    """Raise `UsageError` if PYSPARK_SUBMIT_ARGS cannot be parsed or does not end with "pyspark-shell"."""
    text = os.environ.get("PYSPARK_SUBMIT_ARGS")
    if text is None:
        return
    expected, hint = f"PYSPARK_SUBMIT_ARGS that end with {_SHELL}", "correct it, or unset it"
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(expected, f"{text!r}: {error}", hint) from error
    if not words or words[-1] != _SHELL:
        raise UsageError(expected, repr(text), hint)


def check_user() -> None:
    """Raise `UsageError` if this process's user has no name, without which Spark's Hadoop cannot start."""
    user = os.geteuid()
    try:
        pwd.getpwuid(user)
    except KeyError as error:
        raise UsageError(
            "a user with a name, which Spark's Hadoop asks for", f"UID {user}, which is not in /etc/passwd",
            f"add it there (echo 'spark:x:{user}:0::/tmp:/bin/sh' >>/etc/passwd) or run as another user",
        ) from error  # fmt: skip


def check_master(master: str) -> None:
    """Raise `UsageError` for a misspelled ``local[N]``, or if no host of a ``spark://`` URL answers.

    Spark itself would try for a minute.
    """
    if master.startswith("local") and not _LOCAL.fullmatch(master):
        raise UsageError("--master local, local[N] or local[*]", master, "such as local[4]")
    if not master.startswith("spark://"):
        return
    reasons = []
    for place in master.removeprefix("spark://").split(","):
        host, _, port = place.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
            return
        except (OSError, ValueError) as error:
            reasons.append(f"{place}: {error}")
    raise UsageError(f"a Spark master at {master}", "; ".join(reasons), "check --master, and that it runs")


CHECKS: Mapping[str, Callable[[], None]] = {
    "SPARK_HOME": check_home,
    "PYSPARK_PYTHON": lambda: check_python({}),
    "SPARK_LOCAL_DIRS": lambda: check_local_dirs({}),
    "PYSPARK_SUBMIT_ARGS": check_submit_args,
    "user": check_user,
}  # for bisieve doctor, by the variable or thing that is checked
