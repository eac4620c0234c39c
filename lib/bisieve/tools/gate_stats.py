"""Compute the statistics of one index version that the gate compares; `version_stats` is the entry point."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bisieve.index.reader import Index, open_part
from bisieve.index.writer import REPORTED
from bisieve.ranking.strategies import selection_limits

ALL = ""  # the key of the selection over all sources (scope=global); no source has this name


@dataclass(frozen=True)
class SourceStats:
    """Statistics of one source in a version, or of several sources summed up."""

    rollouts: int  # usable rollouts
    mixed: int  # rollouts with both positive and negative steps
    rejected: int  # records
    bis: float | None  # cutoff score; for several sources the mean weighted by rollouts; None: no cutoff

    @property
    def mixed_share(self) -> float:
        """Return the share of mixed rollouts in [0, 1]; 0 if there are no rollouts."""
        return self.mixed / self.rollouts if self.rollouts else 0.0

    @property
    def reject_rate(self) -> float:
        """Return the share of rejected records in [0, 1]; 0 if there are no records."""
        return self.rejected / self.records if self.records else 0.0

    @property
    def records(self) -> int:
        """Return the number of usable rollouts plus rejected records."""
        return self.rollouts + self.rejected


NOTHING = SourceStats(0, 0, 0, None)


@dataclass(frozen=True)
class VersionStats:
    """Statistics of one version, per source and for the whole index."""

    index: Index
    fraction: float  # of the selection, in (0, 1]
    sources: Mapping[str, SourceStats]
    whole: SourceStats  # all sources summed up; bis is None with scope=source

    @property
    def name(self) -> str:
        """Return the version's short name: the first 16 hex digits of its fingerprint."""
        return self.index.fingerprint[:16]


def version_stats(index: Index, fraction: float) -> VersionStats:
    """Return the statistics of ``index`` and the cutoff scores of its selection of ``fraction``.

    Raises:
        UsageError: ``fraction`` is outside (0, 1].
        IndexUnusableError: A file of the index is missing or damaged.
    """
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
    """Sum up several sources; ``bis`` is the mean of their cutoff scores weighted by rollouts."""
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
    """Return the cutoff scores of a selection: the BIS of its last rollout.

    The index stores those of the fractions in `REPORTED`; for any other fraction, the row groups that hold
    the last ranks are read.

    Returns:
        BIS by source; with ``scope=global`` a single value, under `ALL`.

    Raises:
        UsageError: ``fraction`` is outside (0, 1].
        IndexUnusableError: A file of the index is missing or damaged.
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
