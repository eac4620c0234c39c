"""Keep pyarrow from importing pandas at its first array, which takes 0.4 s and is not used here.

Import this module, for its side effect, in processes whose tables never become pandas' or come from there.
pyarrow looks for pandas once: it is hidden while that happens here, and can be imported afterwards.
"""

import sys


class _Hidden:
    """Import finder that makes pandas look as if it were not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise `ModuleNotFoundError` for pandas; other modules are found as usual."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is hidden from pyarrow", name=name)


_hidden = _Hidden()
sys.meta_path.insert(0, _hidden)
try:
    import pyarrow as pa

    pa.scalar(0)  # pyarrow looks for pandas now
finally:
    sys.meta_path.remove(_hidden)
