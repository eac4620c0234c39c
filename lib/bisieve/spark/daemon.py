"""The process from which Spark forks its Python workers, in local mode (``spark.python.daemon.module``).

It imports once what every worker would import otherwise.  It also uses the installed pyspark instead of the
zip file on Spark's path, which would be compiled again.  It opens no files and no connections, since those
do not work after a fork.
"""

import gc
import sys
from collections.abc import Callable
from typing import Any

Worker = Callable[[Any, bool], int]


def main() -> None:
    """Import what workers need, then run pyspark's own daemon in this process."""
    sys.path[:] = [path for path in sys.path if not path.endswith("pyspark.zip")]
    import pandas  # noqa: F401 - pyarrow imports it at its first array
    import pyspark.daemon
    import pyspark.worker

    import bisieve.pipeline.run
    import bisieve.spark.engine  # noqa: F401

    pyspark.daemon.worker = until_jvm_leaves(pyspark.daemon.worker)  # type: ignore[assignment]
    gc.freeze()  # a worker collects garbage after every task; imported modules need not be searched
    pyspark.daemon.manager()


def until_jvm_leaves(worker: Worker) -> Worker:
    """Wrap ``worker`` so that it ends quietly with code 1 when the JVM has closed the connection.

    A JVM that stops closes the connections of its idle workers.  A worker then reads the end of its input and
    tries to report that to the JVM.  Without this wrapper it prints a traceback of the broken pipe, if it is
    faster than the signal that ends it.
    """

    def guarded(sock: Any, authenticated: bool) -> int:
        try:
            return worker(sock, authenticated)
        except (BrokenPipeError, ConnectionResetError):
            return 1

    return guarded


if __name__ == "__main__":
    main()
