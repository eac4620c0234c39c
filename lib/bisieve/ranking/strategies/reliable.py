"""Reliability alone, R: the mean score of the positive steps (paper §5.2, Table 4)."""

import pyarrow as pa

from bisieve.ranking.strategies.base import Floats, Strategy
from bisieve.records.options import Parameters


def _reliability(rows: pa.Table, parameters: Parameters) -> Floats:
    return rows["reliability"].to_numpy()  # type: ignore[no-any-return]


STRATEGY = Strategy(_reliability, uses_alpha=False)
