"""Imported first, keeps pyarrow from importing pandas at its first array: 0.4 s, for nothing that we use.

Only for processes that are ours alone.
"""

import sys


class NoPandas:
    """A finder that finds that pandas is not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not imported here", name=name)


sys.meta_path.insert(0, NoPandas())
