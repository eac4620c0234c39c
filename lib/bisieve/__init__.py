"""bisieve: select Monte-Carlo-annotated rollouts by their Balanced-Information Score (BIS).

>>> import bisieve
>>> index = bisieve.score("rollouts.jsonl", "index")
>>> index.select("10%").write_jsonl("best.jsonl")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bisieve._version import __version__

if TYPE_CHECKING:
    from bisieve.api.comparison import Comparison, GateCheck, check_gate, compare
    from bisieve.api.functions import open_index, rerank, score, score_table
    from bisieve.api.index import Index
    from bisieve.api.selection import Selection
    from bisieve.errors import BisieveError
    from bisieve.records.options import ReadOptions
    from bisieve.scoring import balanced_information_score
    from bisieve.tools.gate import Limits

# Imported on first access: ``import bisieve`` takes milliseconds, and needs neither pyarrow nor numpy.
_HOMES = {
    "balanced_information_score": "bisieve.scoring",
    **dict.fromkeys(("open_index", "rerank", "score", "score_table"), "bisieve.api.functions"),
    **dict.fromkeys(("Comparison", "GateCheck", "check_gate", "compare"), "bisieve.api.comparison"),
    "Index": "bisieve.api.index",
    "Selection": "bisieve.api.selection",
    "ReadOptions": "bisieve.records.options",
    "Limits": "bisieve.tools.gate",
    "BisieveError": "bisieve.errors",
}
__all__ = [
    "BisieveError",
    "Comparison",
    "GateCheck",
    "Index",
    "Limits",
    "ReadOptions",
    "Selection",
    "__version__",
    "balanced_information_score",
    "check_gate",
    "compare",
    "open_index",
    "rerank",
    "score",
    "score_table",
]


def __getattr__(name: str) -> Any:
    """Import a name of the public API on first access."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names of the public API."""
    return __all__
