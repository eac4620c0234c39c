"""A seeded random order: the baseline of every comparison (paper §5.2)."""

from bisieve.ranking.strategies.base import Strategy, no_key

STRATEGY = Strategy(no_key, shuffled=True, uses_alpha=False)
