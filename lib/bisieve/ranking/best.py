"""The best fraction of ranked rollouts, and the ties just behind its end.

ranked rows, all at once or in parts ──best_of──▶ `Best` of each ──joined──▶ the `Best` of all
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from bisieve.ranking.grouped import with_column
from bisieve.ranking.order import TieBlock, ranked, selection_limits
from bisieve.ranking.sort import begins, codes_and_texts
from bisieve.ranking.strategies import strategy_of
from bisieve.records.options import Parameters

MOST_RANKED_TWICE = 1_000_000  # rollouts: 1 GB and some seconds more


@dataclass(frozen=True)
class Best:
    """The selected rollouts of a ranking, or of a part of one."""

    rows: pa.Table  # `schemas.USABLE` with ``rank`` and ``key``, ordered by (source, rank)
    left_out: list[TieBlock]  # of each source, the first rollouts not selected: those that tie with the first
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
    blocks = rows.select(["source", "key"]).take(starts[is_first]).to_pylist()
    return [
        (block["source"], block["key"], length)
        for block, length in zip(blocks, lengths[is_first].tolist(), strict=True)
    ]


def joined(parts: Sequence[Best]) -> Best:
    """Return the `Best` of a whole ranking from those of its parts, in order; at least one."""
    return Best(
        pa.concat_tables([part.rows for part in parts]), [block for part in parts for block in part.left_out]
    )


def best_of_ranked(rows: pa.Table, parameters: Parameters, fraction: float) -> Best:
    """Select ``fraction`` of all rollouts of a corpus, as `order.ranked` returns them."""
    codes, names = codes_and_texts(rows["source"])
    dropped = (rows["num_positive"].to_numpy() == 0) & (parameters.all_negative == "drop")
    counts, of_dropped = (
        dict(zip(names, np.bincount(codes[which], minlength=len(names)).tolist(), strict=True))
        for which in (slice(None), dropped)
    )
    return best_of(rows, selection_limits(counts, parameters.scope, fraction, of_dropped))


def best_of_unranked(table: pa.Table, parameters: Parameters, fraction: float) -> Best:
    """Rank all rollouts of a corpus and select ``fraction`` of them; of a strategy of groups count ties, too.

    Where a group decides, as that of a question, ties inside groups decide as well, and the keys do not show
    them. So such rollouts are ranked a second time with ties the other way round: selected ones that are not
    among the best then were selected by the rule for ties alone.

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
