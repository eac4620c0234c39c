"""The tie rule ``ties=spread``: of equal scores, first rollouts of all questions come before second ones."""

import pyarrow as pa

from bisieve.ranking.grouped import PLACE, GroupPass, question_group, unchanged, with_column
from bisieve.records.options import Parameters


def _numbered(rows: pa.Table, parameters: Parameters) -> pa.Table:
    """Set ``tie`` to 1 for the best rollout of its question, 2 for the next, and so on."""
    return with_column(rows, "tie", rows[PLACE].to_numpy())


SPREAD = GroupPass(question_group, unchanged, _numbered)
