"""bisieve: sieve Monte-Carlo-annotated rollouts by their Balanced-Information Score."""

from bisieve.score import balanced_information_score

__all__ = ["balanced_information_score"]
__version__ = "0.1.0"
