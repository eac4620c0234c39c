"""A selection: the best fraction of the rows of an index, by source or over all (paper §4)."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bisieve import schemas
from bisieve.errors import UsageError
from bisieve.index.automatic_alpha import automatic_alpha
from bisieve.index.cutoffs import CutoffTies, ties_of_ranked
from bisieve.index.manifest import DataFile, fingerprint
from bisieve.index.reader import Index, indexed_layouts, indexed_shards, open_part
from bisieve.index.rerank import read_usable, rescored, with_overrides
from bisieve.ranking.order import best, ranked
from bisieve.records.options import AUTO, RANKING, KnownShards, Parameters, parse_fraction

# Rollouts that `select` ranks in memory: one takes about 1 kB at the peak, and each training worker does it.
IN_MEMORY = 4_000_000


@dataclass(frozen=True)
class Selection:
    """The selected rollouts of an index version."""

    rows: pa.Table  # of `schemas.INDEX`, ordered by (source, rank)
    fingerprint: str  # of the index and the fraction; 64 hex digits
    fraction: float  # requested; see `delivered` for the share selected
    available: int  # usable rollouts in the index
    shards: KnownShards  # the shards that spans refer to, and how to read them
    parameters: Parameters  # of the ranking that it is the best of
    ties: CutoffTies | None = None  # at its end; None if the index tells them (`cutoffs.cutoff_ties`)
    is_alpha_automatic: bool = False  # chosen by `automatic_alpha`

    @property
    def delivered(self) -> float:
        """Return the share of the usable rollouts that was selected."""
        return float(self.rows.num_rows / self.available)


def read_selection(index: Index, fraction: float) -> Selection:
    """Select the best ``max(1, int(m * fraction))`` of the m usable rollouts (paper §4).

    With scope "source" this is done in each source, with "global" over all.  Only row groups that may hold
    selected rows are read.

    Args:
        index: The version to select from.
        fraction: Share of rollouts to select, in (0, 1].

    Raises:
        UsageError: ``fraction`` is not in (0, 1], or all rollouts are all-negative and never selected.
        IndexUnusableError: A file of the index is missing or damaged.
    """
    limits = index.limits(fraction)
    tables = [table for file in index.files for table in _best(index.url, file, limits)]
    rows = pa.concat_tables([schemas.INDEX.empty_table(), *tables])
    return _selection(index, rows, index.fingerprint, fraction, index.manifest.parameters)


def select(index: Index, fraction: float, asked: Mapping[str, Any]) -> Selection:
    """Select the best ``fraction`` by other options than those that the index is ranked by.

    The index is not changed: its rollouts are ranked in memory. The selection has the rows, and the
    fingerprint, of the same selection from the index that ``bisieve rank`` would write with these options.

    Args:
        index: The version to select from.
        fraction: Share of rollouts to select, in (0, 1].
        asked: Options by name, of `options.RANKING`; ``alpha`` may be `AUTO`. Without any, or with those of
            the index, this is `read_selection`.

    Raises:
        UsageError: A value is out of range, or the index has more than `IN_MEMORY` rollouts.
        IndexUnusableError: A file of the index is missing or damaged.
    """
    parse_fraction(fraction)
    was = index.manifest.parameters
    is_automatic = asked.get("alpha") == AUTO
    given = {name: value for name, value in asked.items() if not (name == "alpha" and is_automatic)}
    parameters = with_overrides(was, given)
    if parameters == was and not is_automatic:
        return read_selection(index, fraction)
    if index.manifest.rollouts > IN_MEMORY:
        raise UsageError(
            f"an index of at most {IN_MEMORY:,} rollouts, to rank it in memory by other options",
            f"{index.manifest.rollouts:,}",
            "write an index with these options by bisieve rank, and select from that",
        )
    parts = [read_usable(index, file) for file in index.files]
    rows = pa.concat_tables([schemas.USABLE.empty_table(), *parts])
    if is_automatic:
        parameters = replace(parameters, alpha=automatic_alpha(rows, parameters, fraction))
    in_order = ranked(rescored(rows, parameters), parameters)
    rows_version = index.manifest.rows_version
    return _selection(
        index,
        best(in_order, parameters, fraction).select(schemas.INDEX.names).cast(schemas.INDEX),
        fingerprint(parameters, indexed_shards(index), rows_version),
        fraction,
        parameters,
        ties_of_ranked(in_order, parameters, fraction),
        is_automatic,
    )


def differences(selection: Selection, index: Index) -> dict[str, Any]:
    """Return the options of the selection that the index is not ranked by, by name."""
    was, now = index.manifest.parameters, selection.parameters
    return {name: getattr(now, name) for name in RANKING if getattr(now, name) != getattr(was, name)}


def _selection(
    index: Index, rows: pa.Table, version: str, fraction: float, parameters: Parameters,
    ties: CutoffTies | None = None, is_alpha_automatic: bool = False,
) -> Selection:  # fmt: skip
    _require_some(rows, index.manifest.rollouts)
    name = hashlib.sha256(f"{version} {fraction!r}".encode()).hexdigest()
    layouts = {shard.url: layout for shard, layout in indexed_layouts(index).items()}
    shards = KnownShards(parameters.reading, layouts)
    return Selection(
        rows, name, fraction, index.manifest.rollouts, shards, parameters, ties, is_alpha_automatic
    )


def _require_some(rows: pa.Table, available: int) -> None:
    if available and not rows.num_rows:
        raise UsageError(
            "a rollout with a positive step, as --all-negative drop selects no others",
            "none",
            "rank with --all-negative keep",
        )


def _best(index_url: str, part: DataFile, limits: dict[str, int]) -> Iterator[pa.Table]:
    """Yield the rows of one file whose rank is at most their source's limit, row group by row group."""
    with open_part(index_url, part) as file:
        for group in range(file.num_row_groups):
            if not _may_hold(file.metadata.row_group(group), limits):
                continue
            rows = file.read_row_group(group, use_threads=False)
            source = rows["source"].combine_chunks().dictionary_encode()
            limit = np.array([limits[name] for name in source.dictionary.to_pylist()], np.int64)
            yield rows.filter(pa.array(rows["rank"].to_numpy() <= limit[source.indices.to_numpy()]))


def _may_hold(group: pq.RowGroupMetaData, limits: dict[str, int]) -> bool:
    source, rank = (group.column(column).statistics for column in (0, 1))
    return bool(source.min != source.max or rank.min <= limits[source.min])
