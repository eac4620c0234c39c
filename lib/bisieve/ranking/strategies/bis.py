"""The Balanced-Information Score, the paper's choice: (p(1−p) + α)·R (§4)."""

from bisieve.ranking.strategies.base import Strategy, bis

STRATEGY = Strategy(bis)
