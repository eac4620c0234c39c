"""Compute the statistics of one index version that the gate compares; `version_stats` is the entry point."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bisieve.index.cutoffs import ALL, cutoff_scores
from bisieve.index.reader import Index


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
    ends = cutoff_scores(index, fraction)
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
