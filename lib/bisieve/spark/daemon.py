"""The process that Spark's Python workers are forked from on one machine.

It imports once what otherwise every worker would import for itself, and takes pyspark from where it is
installed: Spark would have it compiled anew from a zip file.  Nothing is opened here, no store, no file: what
is open does not survive a fork.
"""

import gc
import sys
from collections.abc import Callable
from typing import Any

Worker = Callable[[Any, bool], int]


def main() -> None:
    """Becomes pyspark's own daemon."""
    sys.path[:] = [path for path in sys.path if not path.endswith("pyspark.zip")]
    import pandas  # noqa: F401 - pyarrow looks for it at its first array
    import pyspark.daemon
    import pyspark.worker

    import bisieve.pipeline.run
    import bisieve.spark.engine  # noqa: F401

    pyspark.daemon.worker = until_jvm_leaves(pyspark.daemon.worker)  # type: ignore[assignment]
    gc.freeze()  # a worker collects garbage after every task: not among what stays for ever
    pyspark.daemon.manager()


def until_jvm_leaves(worker: Worker) -> Worker:
    """Return ``worker``, ended in silence with code 1 where the JVM has closed its end of the connection.

    A JVM that stops closes the connections of its idle workers.  Each meets the end of its input, tries to
    report that to the JVM, and without this prints the broken pipe that it meets there as a traceback, if it
    is quicker than the signal that ends it.
    """

    def guarded(sock: Any, authenticated: bool) -> int:
        try:
            return worker(sock, authenticated)
        except (BrokenPipeError, ConnectionResetError):
            return 1

    return guarded


if __name__ == "__main__":
    main()
