"""Count the rollouts without a positive step in a selection of an index."""

import numpy as np
import pyarrow.parquet as pq

from bisieve.index.reader import Index, open_part


def all_negative(index: Index, fraction: float) -> int:
    """Return how many rollouts of a selection have no positive step.

    Only three columns are read, of row groups that may hold such rollouts.

    Args:
        index: The version that is selected from.
        fraction: Share of rollouts that is selected, in (0, 1].

    Raises:
        UsageError: ``fraction`` is outside (0, 1].
        IndexUnusableError: A file of the index is missing or damaged.
    """
    limits = index.limits(fraction)
    found = 0
    for part in index.files:
        with open_part(index.url, part) as file:
            for group in range(file.num_row_groups):
                if not _may_hold(file.metadata.row_group(group), limits):
                    continue
                rows = file.read_row_group(group, ["source", "rank", "num_positive"], use_threads=False)
                source = rows["source"].combine_chunks().dictionary_encode()
                limit = np.array([limits[name] for name in source.dictionary.to_pylist()], np.int64)
                is_best = rows["rank"].to_numpy() <= limit[source.indices.to_numpy()]
                found += int(np.count_nonzero(is_best & (rows["num_positive"].to_numpy() == 0)))
    return found


def _may_hold(group: pq.RowGroupMetaData, limits: dict[str, int]) -> bool:
    columns = {group.column(place).path_in_schema: place for place in range(group.num_columns)}
    source, rank, positive = (
        group.column(columns[name]).statistics for name in ("source", "rank", "num_positive")
    )
    return bool(positive.min == 0 and (source.min != source.max or rank.min <= limits[source.min]))
