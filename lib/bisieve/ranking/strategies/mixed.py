"""Mixture alone, p(1−p); rollouts without one come last, in random order (paper §5.2, Table 4)."""

import pyarrow as pa

from bisieve.ranking.strategies.base import Floats, Strategy
from bisieve.records.options import Parameters


def _mixture(rows: pa.Table, parameters: Parameters) -> Floats:
    p: Floats = rows["positive_fraction"].to_numpy()
    return p * (1.0 - p)


STRATEGY = Strategy(_mixture, shuffled=True, uses_alpha=False)
