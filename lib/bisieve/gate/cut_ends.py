"""Where the cut of a fraction ends: from the index's lists, or from the few rows that tell."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bisieve.fraction import cut_limits
from bisieve.index import Index
from bisieve.index_files import open_part
from bisieve.ranked import REPORTED

ALL = ""  # no source has this name: the cut over all sources, with scope=global


def cut_ends(index: Index, fraction: float) -> dict[str, float]:
    """The BIS of the last rollout that the cut takes, by source; with ``scope`` global one, of `ALL`.

    `UsageError` for a fraction outside (0, 1]; `IndexUnusableError` when a file is missing or damaged.
    """
    is_global = index.manifest.parameters.scope == "global"
    rollouts = {name: count for name, count in index.rollouts_by_source.items() if count}
    limits = cut_limits(rollouts, index.manifest.parameters.scope, fraction)
    if fraction not in REPORTED:
        return _from_rows(index, limits, is_global)
    if is_global:
        (end,) = (score.bis for score in index.manifest.cutoff_scores if score.fraction == fraction)
        return {ALL: end}
    return {
        row["source"]: score["bis"]
        for row in index.sources.select(["source", "cutoff_scores"]).to_pylist()
        for score in row["cutoff_scores"]
        if score["fraction"] == fraction
    }


def _from_rows(index: Index, limits: dict[str, int], is_global: bool) -> dict[str, float]:
    ends = {}
    for part in index.files:
        with open_part(index.url, part) as file:
            for group in range(file.num_row_groups):
                if not _may_end(file.metadata.row_group(group), limits):
                    continue
                rows = file.read_row_group(group, columns=["source", "rank", "bis"], use_threads=False)
                source = rows["source"].combine_chunks().dictionary_encode()
                limit = np.array([limits[name] for name in source.dictionary.to_pylist()], np.int64)
                is_last = rows["rank"].to_numpy() == limit[source.indices.to_numpy()]
                for row in rows.filter(pa.array(is_last)).to_pylist():
                    ends[ALL if is_global else row["source"]] = row["bis"]
    return ends


def _may_end(group: pq.RowGroupMetaData, limits: dict[str, int]) -> bool:
    source, rank = (group.column(column).statistics for column in (0, 1))
    return bool(source.min != source.max or rank.min <= limits[source.min] <= rank.max)
