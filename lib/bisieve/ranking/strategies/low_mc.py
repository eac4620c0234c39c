"""The lowest mean MC score of the steps first (paper §5.2, Table 4)."""

import numpy as np
import pyarrow as pa

from bisieve.ranking.strategies.base import Floats, Strategy, step_owner, step_scores
from bisieve.records.options import Parameters


def _negative_mean(rows: pa.Table, parameters: Parameters) -> Floats:
    steps = rows["num_steps"].to_numpy()
    sums = np.bincount(step_owner(rows), weights=step_scores(rows), minlength=len(steps))
    return np.asarray(-(sums / steps), np.float64)


STRATEGY = Strategy(_negative_mean, uses_alpha=False)
