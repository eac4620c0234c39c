"""bisieve: sieve Monte-Carlo-annotated rollouts by their Balanced-Information Score."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bisieve.score import balanced_information_score

__all__ = ["balanced_information_score"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what is asked for, and numpy with it, only then: commands start a quarter second earlier."""
    if name == "balanced_information_score":
        from bisieve.score import balanced_information_score

        return balanced_information_score
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
