"""Mixed rollouts by BIS, each with an all-positive one of its question, else of its source and step count.

BIS at small fractions takes few rollouts without an error, so late steps are nearly always negative.  A pair
shows the same question, or the same number of steps, right to the end.  In this order:

1. mixed rollouts by BIS; right behind each one its partner;
2. all others by BIS.

The k-th best mixed rollout of a question gets the k-th best all-positive one of that question.  Mixed and
all-positive rollouts that are left are paired in the same way by source and step count.  ``pair_share`` is
the share of the mixed rollouts that get a partner, chosen by a seeded hash; the others are alone.

Matching each case with a control is the design of case-control studies (Mantel and Haenszel, 1959).
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisieve._hash import seeded_hashes
from bisieve.ranking.grouped import PLACE, GroupPass, question_group, with_column
from bisieve.ranking.sort import Order
from bisieve.ranking.strategies.base import Strategy, bis
from bisieve.records.options import Parameters

_OF_PAIRS = 0x5EED_0F_9A125  # makes the hash of a pair another one than that of ties
_MIXED, _POSITIVE, _REST = range(3)
_BY_KIND: Order = (("_kind", "ascending"),)


def _with_mixed_first(rows: pa.Table, parameters: Parameters) -> pa.Table:
    return with_column(rows, "_kind", (~_is_mixed(rows)).astype(np.int64))


def _is_mixed(rows: pa.Table) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    positive, steps = rows["num_positive"].to_numpy(), rows["num_steps"].to_numpy()
    return (positive > 0) & (positive < steps)  # type: ignore[no-any-return]


def _of_scope(parameters: Parameters) -> tuple[str, ...]:
    return () if parameters.scope == "global" else ("source",)


def _ranked(rows: pa.Table, parameters: Parameters) -> pa.Table:
    """Set the key to −2·rank, which leaves a gap behind each rollout for a partner, and the pair to none."""
    rows = with_column(rows, "key", -2.0 * rows[PLACE].to_numpy())
    return with_column(rows, "pair", np.zeros(rows.num_rows, np.int64))


def _with_kinds(rows: pa.Table, parameters: Parameters) -> pa.Table:
    """Add the kinds of rollouts that are without a partner, also as numbers to sum up."""
    mixed, free = _is_mixed(rows), rows["pair"].to_numpy() == 0
    if parameters.pair_share < 1:
        hashes = seeded_hashes(rows["rollout_id"].to_pylist(), parameters.seed ^ _OF_PAIRS)
        mixed &= hashes / 2.0**64 < parameters.pair_share
    positive = rows["num_positive"].to_numpy() == rows["num_steps"].to_numpy()
    kind = np.where(free & mixed, _MIXED, np.where(free & positive, _POSITIVE, _REST))
    for name, values in (("_kind", kind), ("_mixed", kind == _MIXED), ("_positive", kind == _POSITIVE)):
        rows = with_column(rows, name, values.astype(np.int64))
    return rows


def _paired_by_question(rows: pa.Table, parameters: Parameters) -> pa.Table:
    return _with_pairs(rows, 1)


def _paired_by_length(rows: pa.Table, parameters: Parameters) -> pa.Table:
    return _with_pairs(rows, -1)


def _with_pairs(rows: pa.Table, sign: int) -> pa.Table:
    """Add the number of each pair in its group, from 1, with a sign that says what kind of group it is."""
    kind, place = rows["_kind"].to_numpy(), rows[PLACE].to_numpy()
    mixed, positive = rows["_mixed"].to_numpy(), rows["_positive"].to_numpy()
    number = np.where(kind == _POSITIVE, place - mixed, place)  # among those of its kind
    found = (kind != _REST) & (number <= np.minimum(mixed, positive))
    return with_column(rows, "pair", np.where(found, sign * number, rows["pair"].to_numpy()))


def _by_length(parameters: Parameters) -> tuple[str, ...]:
    return ("source", "num_steps")


def _with_groups(rows: pa.Table, parameters: Parameters) -> pa.Table:
    """Add the columns that identify a pair, and the rank of its mixed rollout."""
    pair, mixed = rows["pair"].to_numpy(), _is_mixed(rows)
    by_question = pa.array(pair > 0)
    source = rows["source"].combine_chunks().cast(pa.string())
    if parameters.scope == "global":  # a question may have rollouts in several sources
        source = pc.if_else(by_question, "", source)
    rows = rows.append_column("_source", source)
    rows = rows.append_column("_question", pc.if_else(by_question, rows["question_id"].combine_chunks(), ""))
    rows = with_column(rows, "_steps", np.where(pair > 0, 0, rows["num_steps"].to_numpy()).astype(np.int64))
    rank = np.where(mixed & (pair != 0), -rows["key"].to_numpy() / 2, 0).astype(np.int64)
    return with_column(rows, "_rank", rank)


def _of_pair(parameters: Parameters) -> tuple[str, ...]:
    return ("_source", "_question", "_steps", "pair")


def _behind_its_mixed(rows: pa.Table, parameters: Parameters) -> pa.Table:
    """Set the key of each partner so that it is right behind its mixed rollout."""
    is_partner = (rows["pair"].to_numpy() != 0) & ~_is_mixed(rows)
    key = np.where(is_partner, -2.0 * rows["_rank"].to_numpy() - 1, rows["key"].to_numpy())
    return with_column(rows, "key", key).drop_columns(["pair"])


_SUMS = ("_mixed", "_positive")
STRATEGY = Strategy(
    bis,
    (
        GroupPass(_of_scope, _with_mixed_first, _ranked, _BY_KIND),
        GroupPass(question_group, _with_kinds, _paired_by_question, _BY_KIND, _SUMS),
        GroupPass(_by_length, _with_kinds, _paired_by_length, _BY_KIND, _SUMS),
        GroupPass(_of_pair, _with_groups, _behind_its_mixed, sums=("_rank",)),
    ),
    options=("pair_share", "seed"),
)
