"""Keep pyarrow from importing pandas at its first array, which takes 0.4 s and is not used here.

Import this module before pyarrow, for its side effect, and only in processes that run nothing but this
package: afterwards nothing in the process can import pandas.
"""

import sys


class NoPandas:
    """Import finder that makes pandas look as if it were not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise `ModuleNotFoundError` for pandas; other modules are found as usual."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not imported here", name=name)


sys.meta_path.insert(0, NoPandas())
