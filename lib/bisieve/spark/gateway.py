"""The JVM of a Spark on this machine: started with its stderr in our hands.

What it says while it starts is the reason if it does not start.  Later lines go on to our stderr, without
those that every Java says at every start.
"""

import os
import re
import sys
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, TextIO

from pyspark import SparkConf
from pyspark.errors import PySparkException
from pyspark.java_gateway import launch_gateway

from bisieve.errors import UsageError
from bisieve.spark.reasons import innermost

_ALWAYS_SAID = re.compile(
    r"WARNING: Using incubator modules|Using Spark's default log4j|Setting default log level|"
    r"To adjust logging level|WARNING: .*(sun\.misc\.Unsafe|restricted method|native access|terminally)"
)
_KEPT = 200  # lines


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


def started_gateway(conf: SparkConf, mend: str) -> Any:
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
        raise UsageError("a Spark that starts", said, mend) from error
    stderr.started()
    return gateway
