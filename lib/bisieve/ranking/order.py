"""Order of scored rollouts by a strategy's key, per source or over all, with a rule for ties; the best ones.

`with_keys` gives each rollout its key; where a ranking needs more than a rollout alone, the group passes of
`group_passes_of` follow; `ranking_order` sorts; `selection_limits` says where a selection ends.

ranked rows, all at once or in parts ──best_of──▶ `Best` of each ──joined──▶ the `Best` of all
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from bisieve._hash import seeded_hashes
from bisieve.ranking.grouped import (
    BEST_FIRST,
    PLACE,
    GroupPass,
    applied,
    question_group,
    unchanged,
    with_column,
)
from bisieve.ranking.sort import Order, Places, begins, codes_and_texts, sorted_indices
from bisieve.ranking.strategies import strategy_of
from bisieve.ranking.strategies.base import Floats
from bisieve.records.options import Parameters, parse_fraction

TieBlock: TypeAlias = tuple[str, float, int]  # source, key, number of rollouts with that key

INDEX_ORDER: Order = (("source", "ascending"), ("rank", "ascending"))
REJECTS_ORDER: Order = (("shard", "ascending"), ("offset", "ascending"))
MOST_RANKED_TWICE = 1_000_000  # rollouts; to rank them once more takes 1 GB and some seconds


def ranking_order(parameters: Parameters) -> Order:
    """Return the order of ranks: best first, inside each source or over all as the scope says."""
    return BEST_FIRST if parameters.scope == "global" else (("source", "ascending"), *BEST_FIRST)


def with_keys(table: pa.Table, parameters: Parameters) -> pa.Table:
    """Add the columns ``key`` (float64, greatest first) and ``tie`` (int64, smallest first) to ``table``.

    The key is what a strategy knows of a rollout alone; group passes (`group_passes_of`) may replace it.
    ``tie`` orders rollouts of equal key.  It is a seeded hash with ``ties=hash`` and for strategies of random
    order.  Else it is 0: with ``ties=file`` shard and offset decide, and for ``ties=spread``, which needs all
    rollouts of a question, a group pass sets it.
    """
    tie = np.zeros(table.num_rows, np.int64)
    if parameters.ties == "hash" or strategy_of(parameters.strategy).shuffled:
        tie = seeded_hashes(table["rollout_id"].to_pylist(), parameters.seed).view(np.int64)
    key = pa.array(ranking_key(table, parameters))
    return table.append_column("key", key).append_column("tie", pa.array(tie))


def ranking_key(table: pa.Table, parameters: Parameters) -> Floats:
    """Return what a rollout is ranked by as far as it depends on the rollout alone, float64 [rows]."""
    return _negatives_last(table, strategy_of(parameters.strategy).key(table, parameters), parameters)


def with_negatives_last(table: pa.Table, parameters: Parameters) -> pa.Table:
    """Set the key of rollouts without a positive step to −∞, unless they are kept among the others."""
    return with_column(table, "key", _negatives_last(table, table["key"].to_numpy(), parameters))


def _negatives_last(table: pa.Table, key: Floats, parameters: Parameters) -> Floats:
    if parameters.all_negative == "keep":
        return key
    return np.where(table["num_positive"].to_numpy() == 0, -np.inf, key)


def _numbered(rows: pa.Table, parameters: Parameters) -> pa.Table:
    """Set ``tie`` to 1 for the best rollout of its question, 2 for the next, and so on."""
    return with_column(rows, "tie", rows[PLACE].to_numpy())


# ties=spread: of equal scores, first rollouts of all questions come before second ones.
SPREAD = GroupPass(question_group, unchanged, _numbered)


def group_passes_of(parameters: Parameters) -> tuple[GroupPass, ...]:
    """Return the group passes of a ranking, in order: that of ``ties=spread``, then the strategy's."""
    spread = (SPREAD,) if parameters.ties == "spread" else ()
    return (*spread, *strategy_of(parameters.strategy).passes)


def ranked(table: pa.Table, parameters: Parameters, reversed_ties: bool = False) -> pa.Table:
    """Return usable rollouts with their ``rank``, ordered by (source, rank), as an index has them.

    Args:
        table: All rollouts of a corpus, `schemas.USABLE`, scored.
        parameters: Of the ranking.
        reversed_ties: Reverse the order of ties. ``shard`` and ``offset`` of the result then lead to no
            record.
    """
    rows = with_keys(table, parameters)
    if reversed_ties:
        rows = _with_reversed_ties(rows)
    for step in group_passes_of(parameters):
        rows = with_negatives_last(applied(rows, step, parameters), parameters)
    rows = rows.take(sorted_indices(rows, ranking_order(parameters))).combine_chunks()
    place = np.arange(rows.num_rows)
    if parameters.scope == "global":
        rows = with_column(rows, "rank", place + 1)
        return rows.take(sorted_indices(rows, INDEX_ORDER))
    first = np.maximum.accumulate(np.where(begins(rows, ["source"]), place, 0))
    return with_column(rows, "rank", place - first + 1)


def _with_reversed_ties(rows: pa.Table) -> pa.Table:
    """Change ``tie``, ``shard`` and ``offset`` so that ties are sorted in reverse order."""
    place = np.empty(rows.num_rows, np.int64)
    place[sorted_indices(rows, REJECTS_ORDER)] = np.arange(rows.num_rows)
    rows = with_column(rows, "tie", ~rows["tie"].to_numpy())
    return with_column(with_column(rows, "shard", np.full(rows.num_rows, "")), "offset", -place)


def telling_tie_blocks(table: pa.Table) -> list[TieBlock]:
    """Return blocks of rows with equal source and key: the first, the last, and each source's largest.

    These are enough for `largest_tie_blocks`, since only the first and the last block of a file can extend
    into its neighbours.

    Args:
        table: Rows of one ranked file, in order, with ``key``; at least one.
    """
    starts = np.flatnonzero(begins(table, ["source", "key"]))
    lengths = np.diff([*starts, table.num_rows])
    of_sources = np.searchsorted(starts, np.flatnonzero(begins(table, ["source"])))
    largest = [
        first + int(lengths[first:end].argmax()) for first, end in pairwise([*of_sources, len(starts)])
    ]
    telling = sorted({0, len(starts) - 1, *largest})
    return _tie_blocks(table, starts[telling], lengths[telling])


def _tie_blocks(table: pa.Table, starts: Places, lengths: Places) -> list[TieBlock]:
    """Return the blocks of ``table`` that begin at the rows ``starts`` and have ``lengths`` rows."""
    blocks = table.select(["source", "key"]).take(starts).to_pylist()
    return [
        (block["source"], block["key"], length)
        for block, length in zip(blocks, lengths.tolist(), strict=True)
    ]


def largest_tie_blocks(files: Iterable[Sequence[TieBlock]]) -> dict[str, int]:
    """Return, by source, the size of its largest block of equal keys.

    Args:
        files: What `telling_tie_blocks` returned for each ranked file, in order.
    """
    largest: dict[str, int] = {}
    before: TieBlock | None = None
    for source, score, length in (block for file in files for block in file):
        if before is not None and before[:2] == (source, score):
            length += before[2]
        before = (source, score, length)
        largest[source] = max(length, largest.get(source, 0))
    return largest


def selection_limits(
    rollouts: Mapping[str, int], scope: str, fraction: float, dropped: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Return, by source, the last rank that a selection takes: ``max(1, int(m * fraction))`` (paper §4).

    Args:
        rollouts: Number of usable rollouts by source.
        scope: With "source" m is the number of the source; with "global" it is that of all sources, and
            their limits are equal.
        fraction: Share of rollouts to select.
        dropped: By source, how many rollouts of the lowest ranks are never selected; none by default.

    Raises:
        UsageError: ``fraction`` is not in (0, 1].
    """
    parse_fraction(fraction)
    dropped = dropped or {}
    if scope == "global":
        every = sum(rollouts.values())
        return dict.fromkeys(rollouts, min(_limit(every, fraction), every - sum(dropped.values())))
    return {
        source: min(_limit(count, fraction), count - dropped.get(source, 0))
        for source, count in rollouts.items()
    }


def _limit(rollouts: int, fraction: float) -> int:
    return max(1, int(rollouts * fraction))


@dataclass(frozen=True)
class Best:
    """The selected rollouts of a ranking, or of a part of one."""

    rows: pa.Table  # `schemas.USABLE` with ``rank`` and ``key``, ordered by (source, rank)
    left_out: list[TieBlock]  # of each source, the first rollout not selected and those that tie with it
    replaced: int | None = None  # of the selected, see `best_of_unranked`; None: not counted


def best_of(rows: pa.Table, limits: Mapping[str, int]) -> Best:
    """Select the rows whose rank is at most their source's limit.

    Args:
        rows: Ranked rollouts with ``key``, ordered by (source, rank).
        limits: By source, the last rank that is selected; see `selection_limits`.
    """
    codes, names = codes_and_texts(rows["source"])
    last = np.array([limits.get(name, 0) for name in names], np.int64)[codes]
    is_best = rows["rank"].to_numpy() <= last
    return Best(rows.filter(pa.array(is_best)), _first_blocks(rows.filter(pa.array(~is_best))))


def _first_blocks(rows: pa.Table) -> list[TieBlock]:
    """Return of each source its first block of equal keys."""
    starts = np.flatnonzero(begins(rows, ["source", "key"]))
    lengths = np.diff([*starts, rows.num_rows])
    is_first = np.isin(starts, np.flatnonzero(begins(rows, ["source"])))
    return _tie_blocks(rows, starts[is_first], lengths[is_first])


def joined(parts: Sequence[Best]) -> Best:
    """Return the `Best` of a whole ranking from those of its parts, in order; at least one."""
    return Best(
        pa.concat_tables([part.rows for part in parts]), [block for part in parts for block in part.left_out]
    )


def best_of_ranked(rows: pa.Table, parameters: Parameters, fraction: float) -> Best:
    """Select ``fraction`` of all rollouts of a corpus, which are as `ranked` returns them."""
    codes, names = codes_and_texts(rows["source"])
    dropped = (rows["num_positive"].to_numpy() == 0) & (parameters.all_negative == "drop")
    counts, of_dropped = (
        dict(zip(names, np.bincount(codes[which], minlength=len(names)).tolist(), strict=True))
        for which in (slice(None), dropped)
    )
    return best_of(rows, selection_limits(counts, parameters.scope, fraction, of_dropped))


def best_of_unranked(table: pa.Table, parameters: Parameters, fraction: float) -> Best:
    """Rank all rollouts of a corpus and select ``fraction`` of them; of a strategy of groups count ties, too.

    With such a strategy ties inside groups, as those of a question, decide as well, and the keys do not show
    them. So the rollouts are ranked a second time with ties in reverse order: those that are selected the
    first time alone were selected by the rule for ties alone.

    Args:
        table: `schemas.USABLE`, scored.
        parameters: Of the ranking.
        fraction: Share of rollouts to select.
    """
    strategy = strategy_of(parameters.strategy)
    if not (strategy.passes and strategy.has_score) or table.num_rows > MOST_RANKED_TWICE:
        return best_of_ranked(ranked(table, parameters), parameters, fraction)
    table = with_column(table, "row", np.arange(table.num_rows))
    best, other = (
        best_of_ranked(ranked(table, parameters, turned), parameters, fraction) for turned in (False, True)
    )
    kept = np.isin(best.rows["row"].to_numpy(), other.rows["row"].to_numpy())
    return replace(best, rows=best.rows.drop_columns(["row"]), replaced=int((~kept).sum()))
