"""What one version of an index holds, in the numbers that a gate compares."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bisieve.gate.cut_ends import ALL, cut_ends
from bisieve.index import Index


@dataclass(frozen=True)
class Held:
    """What a version holds of a source, or of several."""

    rollouts: int  # usable ones
    mixed: int  # those with positive and negative steps
    rejected: int  # records
    bis: float | None  # where the cut ends; of several sources the mean, by rollouts; None: nowhere

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


NOTHING = Held(0, 0, 0, None)


@dataclass(frozen=True)
class Side:
    """One of the two versions, by source."""

    index: Index
    fraction: float  # of the cut
    sources: Mapping[str, Held]
    whole: Held  # all sources; with scope=source its bis is None

    @property
    def name(self) -> str:
        """As `bisieve versions` lists it."""
        return self.index.fingerprint[:16]


def side(index: Index, fraction: float) -> Side:
    """What ``index`` holds, with the cut of ``fraction``; raises as `cut_ends` does."""
    ends = cut_ends(index, fraction)
    sources = {
        row["source"]: Held(
            row["rollouts"], row["mixed"], sum(reason["records"] for reason in row["rejected"]),
            ends.get(row["source"]),
        )
        for row in index.sources.select(["source", "rollouts", "mixed", "rejected"]).to_pylist()
    }  # fmt: skip
    counts = together(sources.values())
    return Side(index, fraction, sources, Held(counts.rollouts, counts.mixed, counts.rejected, ends.get(ALL)))


def together(parts: Iterable[Held]) -> Held:
    """Several sources as one."""
    parts = list(parts)
    ended = [(part.bis, part.rollouts) for part in parts if part.bis is not None]
    weight = sum(rollouts for _, rollouts in ended)
    return Held(
        sum(part.rollouts for part in parts),
        sum(part.mixed for part in parts),
        sum(part.rejected for part in parts),
        sum(bis * rollouts for bis, rollouts in ended) / weight if weight else None,
    )
