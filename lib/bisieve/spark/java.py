"""The JVM of a local Spark: find Java, start it, and read the reason when it fails.

What the JVM says while it starts is the reason if it does not start. Later lines are passed on to
stderr, without those that every Java writes at every start.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, TextIO

from pyspark import SparkConf
from pyspark.errors import PySparkException
from pyspark.java_gateway import launch_gateway

from bisieve.errors import UsageError

_ALWAYS_SAID = re.compile(
    r"WARNING: Using incubator modules|Using Spark's default log4j|Setting default log level|"
    r"To adjust logging level|WARNING: .*(sun\.misc\.Unsafe|restricted method|native access|terminally)"
)
_KEPT = 200  # lines

OLDEST = 17
_INSTALL = (
    "install one (Debian, Ubuntu: apt-get install openjdk-17-jre-headless; macOS: brew install openjdk@17)"
)
_OPTIONS = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")  # that every Java takes

_FRAME = re.compile(r"^(at\s|\.\.\. \d+ (more|common)|File \"|Suppressed: |Driver stacktrace:)")
# What every Java that does not start says last.
_ANY_END = ("Error: Could not create the Java Virtual Machine.", "Error: A fatal exception has occurred.")
# A class of errors, in Java or in Python, and what it says.
_NAMED = re.compile(
    r"^(?:Caused by: |Exception in thread \"[^\"]*\" |: )?([\w.$]*(?:Error|Exception|Exit))(?:: (.*))?$"
)
_LONGEST = 400  # characters


class JavaStderr:
    """Reads what a JVM writes to its stderr, held back until it has started."""

    def __init__(self, shown: TextIO) -> None:
        read, self.write_end = os.pipe()
        self._said: deque[str] = deque(maxlen=_KEPT)
        self._shown: TextIO | None = None
        self._to = shown
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._pump, args=(read,), name="java-stderr", daemon=True)
        self._thread.start()

    def _pump(self, descriptor: int) -> None:
        with open(descriptor, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                with self._lock:
                    if self._shown is None:
                        self._said.append(line)
                    else:
                        _show([line], self._shown)

    def started(self) -> None:
        """Show what was held back, and from now on each line as it comes."""
        os.close(self.write_end)  # the JVM has its own
        with self._lock:
            self._shown = self._to
            _show(self._said, self._to)

    def ended(self) -> str:
        """Return all that was said by a JVM that has ended."""
        os.close(self.write_end)
        self._thread.join(timeout=5)
        with self._lock:
            return "".join(self._said)


def _show(lines: Iterable[str], to: TextIO) -> None:
    to.writelines(line for line in lines if not _ALWAYS_SAID.match(line))
    to.flush()


def started_gateway(conf: SparkConf, hint: str) -> Any:
    """Start the JVM.

    Args:
        conf: What Spark is started with.
        mend: What to do when it does not start.

    Raises:
        UsageError: The launcher or the JVM ended; it names what they said.
    """
    stderr = JavaStderr(sys.stderr)
    try:
        gateway = launch_gateway(conf, {"stderr": stderr.write_end})  # type: ignore[no-untyped-call]
    except (PySparkException, OSError) as error:
        said = innermost(stderr.ended()) or str(error)
        raise UsageError("a Spark that starts", said, hint) from error
    stderr.started()
    return gateway


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


def innermost(report: str) -> str:
    """Return the last error in ``report`` that has a message, else its last line; "" for an empty one."""
    lines = [line.strip() for line in report.splitlines()]
    lines = [line for line in lines if line and not _FRAME.match(line) and not line.startswith(_ANY_END)]
    named = [found for line in lines if (found := _NAMED.match(line))]
    speaking = [found for found in named if found[2] and not found[2].startswith("Traceback (most recent")]
    if speaking:
        kind, said = speaking[-1][1], speaking[-1][2]
        for found in reversed(speaking[:-1]):  # what says the same and more is the better reason
            if found[2].endswith(said):
                kind, said = found[1], found[2]
        return f"{kind.rpartition('.')[2]}: {said}"[:_LONGEST]
    if named:
        return named[-1][1].rpartition(".")[2]
    return lines[-1][:_LONGEST] if lines else ""
