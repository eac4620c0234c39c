"""The process that Spark's Python workers are forked from on one machine.

It imports once what otherwise every worker would import for itself, and takes pyspark from where it is
installed: Spark would have it compiled anew from a zip file.  Nothing is opened here, no store, no file: what
is open does not survive a fork.
"""

import gc
import runpy
import sys


def main() -> None:
    """Becomes pyspark's own daemon."""
    sys.path[:] = [path for path in sys.path if not path.endswith("pyspark.zip")]
    import pandas  # noqa: F401 - pyarrow looks for it at its first array
    import pyspark.worker  # noqa: F401

    import bisieve.spark.job  # noqa: F401

    gc.freeze()  # a worker collects garbage after every task: not among what stays for ever
    runpy.run_module("pyspark.daemon", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
