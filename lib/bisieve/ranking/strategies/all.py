"""The corpus in its own order: by shard and position, or as the rule for ties says."""

from bisieve.ranking.strategies.base import Strategy, no_key

STRATEGY = Strategy(no_key, uses_alpha=False)
