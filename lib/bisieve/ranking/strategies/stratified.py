"""BIS within strata of step count and first-error position: every stratum gives the same share.

A rollout with n steps whose first negative one is step e (0 if there is none) is in the stratum (n, e) of its
source, or of all with scope "global".  It is ranked by

    key = −(r − ½) / m,

where r is its rank by BIS in its stratum of m rollouts.  So the best fraction holds about that fraction of
each stratum, and where errors are absorbing the position of a step tells its label as well as in the corpus,
not better.  The mixture of the selection is then the corpus's, too; BIS decides only among like rollouts.
A stratum of fewer than 1/(2f) rollouts gives none to the best fraction f; those of errors are small.

The design is proportional allocation in stratified sampling (Neyman, 1934), with the best of each stratum in
place of random ones.
"""

import numpy as np
import pyarrow as pa

from bisieve.ranking.grouped import PLACE, SIZE, GroupPass, with_column
from bisieve.ranking.strategies.base import Strategy, bis, step_owner, step_scores
from bisieve.records.options import Parameters


def _with_first_error(rows: pa.Table, parameters: Parameters) -> pa.Table:
    """Add the number of the first negative step, from 1, and whether the rollout is to be ranked last."""
    steps = rows["num_steps"].to_numpy()
    ends = np.cumsum(steps, dtype=np.int64)
    negative = np.flatnonzero(step_scores(rows) <= parameters.threshold)
    # The last write to an entry wins: of the errors of a rollout in reverse order, the first.
    first = np.zeros(rows.num_rows, np.int64)
    owner = step_owner(rows)[negative]
    first[owner[::-1]] = (negative - (ends - steps)[owner] + 1)[::-1]
    rows = with_column(rows, "_first_error", first)
    return with_column(rows, "_last", np.isneginf(rows["key"].to_numpy()).astype(np.int64))


def _stratum(parameters: Parameters) -> tuple[str, ...]:
    source = () if parameters.scope == "global" else ("source",)
    return (*source, "num_steps", "_first_error", "_last")


def _share(rows: pa.Table, parameters: Parameters) -> pa.Table:
    """Set the key to minus the share of the stratum that is better."""
    rank, size = rows[PLACE].to_numpy(), rows[SIZE].to_numpy()
    key = np.where(rows["_last"].to_numpy() == 1, -np.inf, -(rank - 0.5) / size)
    return with_column(rows, "key", key)


STRATEGY = Strategy(bis, (GroupPass(_stratum, _with_first_error, _share),))
