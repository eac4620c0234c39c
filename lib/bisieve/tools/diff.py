"""Compare the selections of two indexes and give each changed rollout one reason.

index A ─ by_source ─┐
                     ├─▶ partners ─▶ reasons ─▶ one SourceDiff per source ─▶ written (Parquet), diff_report
index B ─ by_source ─┘

docs/reference/diff.md explains the reasons for users.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bisieve.index.reader import Index
from bisieve.io.storage import open_output
from bisieve.ranking.strategies import strategy_of
from bisieve.records.options import Parameters
from bisieve.tools.diff_match import NO_PARTNER, ROWS, Places, by_source, partners

# One row per rollout that left or entered; rank and bis are null for an index that does not have it.
CHANGES = pa.schema(
    [
        ("source", pa.string()),
        ("rollout_id", pa.string()),
        ("change", pa.string()),  # left or entered
        ("reason", pa.string()),
        ("rank_a", pa.int64()),
        ("rank_b", pa.int64()),
        ("bis_a", pa.float64()),
        ("bis_b", pa.float64()),
        ("shard", pa.string()),  # of its first record: in A when it left, in B when it entered
        ("offset", pa.int64()),
    ]
)

Mask = npt.NDArray[np.bool_]

# In order of priority; equal positions are counterparts. The last one applies when no other does.
LEFT = ("gone", "fraction", "score changed", "parameters", "crowded out")
ENTERED = ("new rollout", "fraction", "score changed", "parameters", "made room")


@dataclass(frozen=True)
class Side:
    """One of the two selections: an index and the fraction selected from it."""

    index: Index
    fraction: float  # in (0, 1]


@dataclass(frozen=True)
class SourceDiff:
    """The difference between the two selections in one source."""

    source: str
    in_a: int  # rollouts in the selection of A
    in_b: int
    kept: int  # in both
    changes: pa.Table  # schema CHANGES: those that left, by rank in A, then those that entered, by rank in B


def compare(a: Side, b: Side) -> Iterator[SourceDiff]:
    """Yield the difference between the two selections, source by source.

    One source of both indexes is in memory at a time; shards are not read. Errors are raised during
    iteration, not by the call.

    Yields:
        One `SourceDiff` for each source that has rollouts in either index, in order of name.

    Raises:
        UsageError: A fraction is outside (0, 1].
        StorageError: A file of an index cannot be read.
        IndexUnusableError: A file of an index is missing or damaged.
    """
    limits_a, limits_b = a.index.limits(a.fraction), b.index.limits(b.fraction)
    as_in_a = b.index.limits(a.fraction)
    alike = ranked_alike(a.index.manifest.parameters, b.index.manifest.parameters)
    for source, rows_a, rows_b in _side_by_side(a.index, b.index):
        of_a, of_b = partners(rows_a, rows_b)
        rank_a, rank_b = rows_a["rank"].to_numpy(), rows_b["rank"].to_numpy()
        cut_a, cut_b = rank_a <= limits_a.get(source, 0), rank_b <= limits_b.get(source, 0)
        # B's selection if B had the same fraction as A.
        same_fraction = rank_b <= as_in_a.get(source, 0)
        left = cut_a & ~_of_partner(cut_b, of_a)
        entered = cut_b & ~_of_partner(cut_a, of_b)
        why_left = reasons(
            LEFT, of_a == NO_PARTNER, _of_partner(same_fraction, of_a), *_differs(rows_a, rows_b, of_a, alike)
        )
        why_entered = reasons(
            ENTERED, of_b == NO_PARTNER, ~same_fraction, *_differs(rows_b, rows_a, of_b, alike)
        )
        yield SourceDiff(
            source,
            in_a=int(cut_a.sum()),
            in_b=int(cut_b.sum()),
            kept=int(cut_a.sum() - left.sum()),
            changes=pa.concat_tables([
                _changes(source, "left", rows_a, rows_b, of_a, why_left, left),
                _changes(source, "entered", rows_b, rows_a, of_b, why_entered, entered),
            ]),
        )  # fmt: skip


def _side_by_side(a: Index, b: Index) -> Iterator[tuple[str, pa.Table, pa.Table]]:
    """Yield each source of either index with its rows in A and in B; both indexes are sorted by source."""
    streams = by_source(a), by_source(b)
    heads = [next(stream, None) for stream in streams]
    while names := [head[0] for head in heads if head is not None]:
        source = min(names)
        tables = []
        for side, head in enumerate(heads):
            if head is not None and head[0] == source:
                tables.append(head[1])
                heads[side] = next(streams[side], None)
            else:
                tables.append(ROWS.empty_table())
        yield source, tables[0], tables[1]


def _of_partner(values: npt.NDArray[Any], partner: Places) -> npt.NDArray[Any]:
    """Return the value of each row's partner, or 0 without one: `NO_PARTNER` takes the appended 0."""
    return np.append(values, np.zeros(1, values.dtype))[partner]


def _differs(rows: pa.Table, others: pa.Table, partner: Places, alike: bool) -> tuple[Mask, Mask]:
    """Compare each row with its partner.

    Returns:
        Two masks [rows]: the MC scores differ; the ranking differs, by its key or, for all rows, because the
        parameters are not ``alike``.
    """
    rescored, rekeyed = (
        rows[name].to_numpy() != _of_partner(others[name].to_numpy(), partner) for name in ("scores", "key")
    )
    return rescored, rekeyed | (not alike)


def _changes(
    source: str, change: str, rows: pa.Table, others: pa.Table, partner: Places,
    why: pa.StringArray, selected: Mask,
) -> pa.Table:  # fmt: skip
    chosen = np.flatnonzero(selected)
    mine, place = rows.take(chosen), partner[chosen]
    theirs = others.select(["rank", "bis"]).take(pa.array(place, mask=place == NO_PARTNER))
    in_a, in_b = (mine, theirs) if change == "left" else (theirs, mine)
    columns = {
        "source": pa.repeat(pa.scalar(source), len(chosen)),
        "rollout_id": mine["rollout_id"],
        "change": pa.repeat(pa.scalar(change), len(chosen)),
        "reason": why.take(pa.array(chosen)),
        "rank_a": in_a["rank"],
        "rank_b": in_b["rank"],
        "bis_a": in_a["bis"],
        "bis_b": in_b["bis"],
        "shard": pc.cast(mine["shard"], pa.string()),
        "offset": mine["offset"],
    }
    return pa.table(columns, schema=CHANGES)


def reasons(
    names: tuple[str, ...], unmatched: Mask, by_fraction: Mask, rescored: Mask, rekeyed: Mask
) -> pa.StringArray:
    """Return one reason for each rollout: the first whose mask is true, else the last one.

    Args:
        names: `LEFT` or `ENTERED`.
        unmatched: The other index does not have the rollout.
        by_fraction: With A's fraction in B, the rollout would be in both selections or in neither.
        rescored: Its MC scores differ.
        rekeyed: Its ranking key, or the strategy, the scope or the order of ties, differs.
    """
    which = np.select([unmatched, by_fraction, rescored, rekeyed], [0, 1, 2, 3], 4)
    return pa.array(names, pa.string()).take(pa.array(which))


def ranked_alike(a: Parameters, b: Parameters) -> bool:
    """Return whether both indexes rank equal keys alike: same strategy with its options, scope and ties.

    The seed counts only where it decides.
    """
    return _competition(a) == _competition(b)


def _competition(parameters: Parameters) -> tuple[object, ...]:
    strategy = strategy_of(parameters.strategy)
    ties = "hash" if strategy.shuffled else parameters.ties
    options = {*strategy.options, *(("seed",) if ties == "hash" else ())}
    decisive = [(name, getattr(parameters, name)) for name in sorted(options)]
    return parameters.strategy, parameters.scope, ties, *decisive


def written(diffs: Iterable[SourceDiff], url: str) -> Iterator[SourceDiff]:
    """Yield ``diffs`` unchanged and write their changes to one Parquet file (schema `CHANGES`) at ``url``.

    The file becomes visible when the iterator is exhausted, and not at all if the iteration ends before.
    """
    with open_output(url) as file, pq.ParquetWriter(file, CHANGES, compression="zstd") as writer:
        for diff in diffs:
            writer.write_table(diff.changes)
            yield diff
