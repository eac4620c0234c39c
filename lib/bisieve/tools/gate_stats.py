"""Statistics of one index version that the gate compares."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bisieve.index.reader import Index, open_part
from bisieve.index.writer import REPORTED
from bisieve.ranking.strategies import selection_limits

ALL = ""  # no source has this name: the selection over all sources, with scope=global


@dataclass(frozen=True)
class SourceStats:
    """What a version holds of a source, or of several."""

    rollouts: int  # usable ones
    mixed: int  # those with positive and negative steps
    rejected: int  # records
    bis: float | None  # where the selection ends; of several sources the mean, by rollouts; None: nowhere

    @property
    def mixed_share(self) -> float:
        """The share of mixed rollouts; 0 of nothing."""
        return self.mixed / self.rollouts if self.rollouts else 0.0

    @property
    def reject_rate(self) -> float:
        """The share of the records that were rejected; 0 of nothing."""
        return self.rejected / self.records if self.records else 0.0

    @property
    def records(self) -> int:
        """Usable rollouts and rejected records."""
        return self.rollouts + self.rejected


NOTHING = SourceStats(0, 0, 0, None)


@dataclass(frozen=True)
class VersionStats:
    """One of the two versions, by source."""

    index: Index
    fraction: float  # of the selection
    sources: Mapping[str, SourceStats]
    whole: SourceStats  # all sources; with scope=source its bis is None

    @property
    def name(self) -> str:
        """As `bisieve versions` lists it."""
        return self.index.fingerprint[:16]


def version_stats(index: Index, fraction: float) -> VersionStats:
    """What ``index`` holds, with the selection of ``fraction``; raises as `selection_ends` does."""
    ends = selection_ends(index, fraction)
    sources = {
        row["source"]: SourceStats(
            row["rollouts"], row["mixed"], sum(reason["records"] for reason in row["rejected"]),
            ends.get(row["source"]),
        )
        for row in index.sources.select(["source", "rollouts", "mixed", "rejected"]).to_pylist()
    }  # fmt: skip
    counts = add_stats(sources.values())
    return VersionStats(
        index, fraction, sources, SourceStats(counts.rollouts, counts.mixed, counts.rejected, ends.get(ALL))
    )


def add_stats(parts: Iterable[SourceStats]) -> SourceStats:
    """Several sources as one."""
    parts = list(parts)
    ended = [(part.bis, part.rollouts) for part in parts if part.bis is not None]
    weight = sum(rollouts for _, rollouts in ended)
    return SourceStats(
        sum(part.rollouts for part in parts),
        sum(part.mixed for part in parts),
        sum(part.rejected for part in parts),
        sum(bis * rollouts for bis, rollouts in ended) / weight if weight else None,
    )


def selection_ends(index: Index, fraction: float) -> dict[str, float]:
    """The BIS of the last rollout that the selection takes, by source; with ``scope`` global one, of `ALL`.

    `UsageError` for a fraction outside (0, 1]; `IndexUnusableError` when a file is missing or damaged.
    """
    is_global = index.manifest.parameters.scope == "global"
    rollouts = {name: count for name, count in index.rollouts_by_source.items() if count}
    limits = selection_limits(rollouts, index.manifest.parameters.scope, fraction)
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
