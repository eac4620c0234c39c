"""A selection: the best fraction of the rows of an index, by source or over all (paper §4)."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bisieve import schemas
from bisieve.errors import UsageError
from bisieve.index.manifest import DataFile
from bisieve.index.reader import Index, indexed_layouts, open_part
from bisieve.records.options import KnownShards


@dataclass(frozen=True)
class Selection:
    """The selected rollouts of an index version."""

    rows: pa.Table  # of `schemas.INDEX`, ordered by (source, rank)
    fingerprint: str  # of the index and the fraction; 64 hex digits
    fraction: float  # requested; see `delivered` for the share selected
    available: int  # usable rollouts in the index
    shards: KnownShards  # the shards that spans refer to, and how to read them

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
    manifest = index.manifest
    limits = index.limits(fraction)
    tables = [table for file in index.files for table in _best(index.url, file, limits)]
    rows = pa.concat_tables([schemas.INDEX.empty_table(), *tables])
    _require_some(rows, manifest.rollouts)
    name = hashlib.sha256(f"{index.fingerprint} {fraction!r}".encode()).hexdigest()
    layouts = {shard.url: layout for shard, layout in indexed_layouts(index).items()}
    return Selection(
        rows, name, fraction, manifest.rollouts, KnownShards(manifest.parameters.reading, layouts)
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
