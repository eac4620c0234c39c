"""The JVM of Spark's driver: find Java, start it, and extract the reason if it fails.

The stderr of the JVM is held back while it starts: if it does not start, it gives the reason.  Otherwise it
is shown, without the lines that every Java writes at every start, and later lines are shown as they come.
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
_KEPT = 200  # most lines of stderr held back

OLDEST = 17
_INSTALL = (
    "install one (Debian, Ubuntu: apt-get install openjdk-17-jre-headless; macOS: brew install openjdk@17)"
)
_OPTIONS = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")  # variables that every Java reads

_FRAME = re.compile(r"^(at\s|\.\.\. \d+ (more|common)|File \"|Suppressed: |Driver stacktrace:)")
# The last lines of any Java that does not start.
_ANY_END = ("Error: Could not create the Java Virtual Machine.", "Error: A fatal exception has occurred.")
# An error in a Java or Python traceback: its class and its message.
_NAMED = re.compile(
    r"^(?:Caused by: |Exception in thread \"[^\"]*\" |: )?([\w.$]*(?:Error|Exception|Exit))(?:: (.*))?$"
)
_LONGEST = 400  # characters of a reason


class JavaStderr:
    """Reader of a JVM's stderr, which holds lines back until the JVM has started.

    Pass ``write_end``, a file descriptor, as the stderr of the JVM; then call either `started` or `ended`.
    """

    def __init__(self, shown: TextIO) -> None:
        read, self.write_end = os.pipe()
        self._output: deque[str] = deque(maxlen=_KEPT)
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
                        self._output.append(line)
                    else:
                        _show([line], self._shown)

    def started(self) -> None:
        """Show the lines held back, and from now on each line as it comes."""
        os.close(self.write_end)  # the JVM has its own copy
        with self._lock:
            self._shown = self._to
            _show(self._output, self._to)

    def ended(self) -> str:
        """Return the lines held back of a JVM that has ended, at most the last 200."""
        os.close(self.write_end)
        self._thread.join(timeout=5)
        with self._lock:
            return "".join(self._output)


def _show(lines: Iterable[str], to: TextIO) -> None:
    to.writelines(line for line in lines if not _ALWAYS_SAID.match(line))
    to.flush()


def started_gateway(conf: SparkConf, hint: str) -> Any:
    """Start the JVM and return py4j's gateway to it.

    Args:
        conf: Spark's configuration.
        hint: What the user can do if it does not start, for the error.

    Raises:
        UsageError: The launcher or the JVM ended; with the reason from its stderr.
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
    """Return the major version of the Java that Spark will start.

    Raises:
        UsageError: There is none, it does not start, or it is older than 17.
    """
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
        raise UsageError(expected, said[0] if said else f"no version from {java}", fix)
    return int(found[1])


def innermost(report: str) -> str:
    """Return the innermost reason in a traceback of Java or Python, of at most 400 characters.

    Returns:
        "Class: message" of the last error with a message (or of an earlier error whose message ends with that
        one and so says more), else the class of the last error, else the last line; "" for an empty report.
    """
    lines = [line.strip() for line in report.splitlines()]
    lines = [line for line in lines if line and not _FRAME.match(line) and not line.startswith(_ANY_END)]
    named = [found for line in lines if (found := _NAMED.match(line))]
    speaking = [found for found in named if found[2] and not found[2].startswith("Traceback (most recent")]
    if speaking:
        kind, said = speaking[-1][1], speaking[-1][2]
        for found in reversed(speaking[:-1]):  # an error with the same message and more is the better reason
            if found[2].endswith(said):
                kind, said = found[1], found[2]
        return f"{kind.rpartition('.')[2]}: {said}"[:_LONGEST]
    if named:
        return named[-1][1].rpartition(".")[2]
    return lines[-1][:_LONGEST] if lines else ""
