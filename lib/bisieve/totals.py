"""Counts of what a scan found: per source, per reason and per shard; parts add up to the whole."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

COUNTED = ("rollouts", "steps", "mixed", "all_positive", "all_negative")


@dataclass
class Totals:
    """The numbers of some scanned rows."""

    sources: dict[str, list[int]] = field(default_factory=dict)  # the numbers of COUNTED
    rejected: dict[tuple[str, str], int] = field(default_factory=dict)  # by source and reason
    first: dict[str, tuple[str, int]] = field(default_factory=dict)  # by reason: (shard, offset)
    shards: dict[str, list[int]] = field(default_factory=dict)  # usable rollouts and rejects

    @property
    def rollouts(self) -> dict[str, int]:
        """The usable rollouts of each source that has some, in the order of their names."""
        return {source: self.sources[source][0] for source in sorted(self.sources)}

    @property
    def num_rollouts(self) -> int:
        """All usable rollouts."""
        return sum(counts[0] for counts in self.sources.values())

    @property
    def num_rejected(self) -> int:
        """All rejects."""
        return sum(self.rejected.values())

    @property
    def rejected_by_reason(self) -> dict[str, int]:
        """The rejects of all sources, by reason."""
        counts: dict[str, int] = {}
        for (_, reason), number in sorted(self.rejected.items(), key=lambda entry: entry[0][1]):
            counts[reason] = counts.get(reason, 0) + number
        return counts

    @property
    def examples(self) -> dict[str, str]:
        """For each reason the first rejected record, shard@offset."""
        return {reason: f"{shard}@{offset}" for reason, (shard, offset) in sorted(self.first.items())}


def count(usable: pa.Table, rejects: pa.Table) -> Totals:
    """The totals of rows of `schema.SCORED`."""
    totals = Totals()
    positive, steps = (usable[name].to_numpy() for name in ("num_positive", "num_steps"))
    kinds = {"mixed": (positive > 0) & (positive < steps), "+": positive == steps, "-": positive == 0}
    table = pa.table({"source": usable["source"], "rollouts": np.ones(len(steps), np.int64), "steps": steps}
                     | {name: kind.astype(np.int64) for name, kind in kinds.items()})  # fmt: skip
    sums = [(name, "sum") for name in table.column_names[1:]]
    for row in table.group_by("source", use_threads=False).aggregate(sums).to_pylist():
        totals.sources[row["source"]] = [row[f"{name}_sum"] for name, _ in sums]
    for row in (
        rejects.group_by(["source", "reason"], use_threads=False).aggregate([([], "count_all")]).to_pylist()
    ):
        totals.rejected[row["source"], row["reason"]] = row["count_all"]
    for reason in pc.unique(rejects["reason"]).to_pylist():
        of_it = rejects.filter(pc.equal(rejects["reason"], reason)).select(["shard", "offset"])
        totals.first[reason] = min((row["shard"], row["offset"]) for row in of_it.to_pylist())
    for place, rows in enumerate((usable, rejects)):
        for row in rows.group_by("shard", use_threads=False).aggregate([([], "count_all")]).to_pylist():
            totals.shards.setdefault(row["shard"], [0, 0])[place] = row["count_all"]
    return totals


def add_up(parts: Iterable[Totals]) -> Totals:
    """The totals of all rows."""
    whole = Totals()
    for part in parts:
        _add(whole.sources, part.sources)
        _add(whole.shards, part.shards)
        for key, number in part.rejected.items():
            whole.rejected[key] = whole.rejected.get(key, 0) + number
        for reason, place in part.first.items():
            whole.first[reason] = min(place, whole.first.get(reason, place))
    return whole


def _add(whole: dict[str, list[int]], part: dict[str, list[int]]) -> None:
    for name, numbers in part.items():
        before = whole.get(name)
        # Most names are in one part alone: what is theirs is taken over, not copied.
        whole[name] = numbers if before is None else [a + b for a, b in zip(before, numbers, strict=True)]
