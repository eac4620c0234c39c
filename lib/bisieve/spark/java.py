"""Spark needs a Java that pip cannot bring: looked for before Spark is started."""

import os
import re
import shutil
import subprocess

from bisieve.errors import UsageError
from bisieve.spark.reasons import innermost

OLDEST = 17
_INSTALL = (
    "install one (Debian, Ubuntu: apt-get install openjdk-17-jre-headless; macOS: brew install openjdk@17)"
)
_OPTIONS = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")  # that every Java takes


def check_java() -> int:
    """Return the version of the Java that Spark will start; `UsageError` where there is none from 17 on."""
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else shutil.which("java")
    expected = f"Java {OLDEST} or newer for Spark"
    fix = f"unset JAVA_HOME={home}, or set it to one, or {_INSTALL}" if home else _INSTALL
    if not java or not os.path.exists(java):
        raise UsageError(expected, f"no java at {java or 'any place on PATH'}", fix)
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(expected, f"{java}: {error.strerror}", fix) from error
    given = [f"{name}={os.environ[name]}" for name in _OPTIONS if name in os.environ]
    if answer.returncode and given:
        raise UsageError("a Java that starts", innermost(answer.stderr), f"correct {', '.join(given)}")
    found = re.search(r'version "(\d+)', answer.stderr)
    if not found or int(found[1]) < OLDEST:
        said = answer.stderr.strip().splitlines()
        raise UsageError(expected, said[0] if said else f"a silent {java}", fix)
    return int(found[1])
