"""The output of a scan: sorted runs of usable and rejected rollouts, with counts and key samples."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisieve import schemas
from bisieve.ranking.sort import Run, Sample, sorted_run
from bisieve.ranking.strategies import REJECTS_ORDER, ranking_order, with_keys
from bisieve.records.options import Parameters

COUNTED = ("rollouts", "steps", "mixed", "all_positive", "all_negative")

CHUNK_ROWS = 2**16
CHUNK_BYTES = 24 * 2**20
FEW_BYTES = 2**14  # of rejects that the driver can take from every chunk of the largest corpus


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
    """The totals of rows of `schemas.SCORED`."""
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


@dataclass(frozen=True)
class Summary:
    """What the driver knows of a chunk."""

    totals: Totals
    usable_sample: Sample
    rejects_sample: Sample
    few_rejects: Run | None  # all of them, where they are few


@dataclass(frozen=True)
class Chunk:
    """Some scanned rollouts."""

    usable: Run
    rejects: Run
    summary: Summary


def chunked(number: int, batches: Iterable[pa.RecordBatch], parameters: Parameters) -> Iterator[Chunk]:
    """Batches of `schemas.SCORED` as chunks of bounded size; ``number`` tells this stream from others."""
    held: list[pa.RecordBatch] = []
    part = 0
    for batch in batches:
        held.append(batch)
        if sum(b.num_rows for b in held) >= CHUNK_ROWS or sum(b.nbytes for b in held) >= CHUNK_BYTES:
            yield _scanned((number, part), held, parameters)
            held, part = [], part + 1
    if held:
        yield _scanned((number, part), held, parameters)


def _scanned(number: tuple[int, int], batches: list[pa.RecordBatch], parameters: Parameters) -> Chunk:
    rows = pa.Table.from_batches(batches).combine_chunks()
    usable, rejects = rows, rows.slice(rows.num_rows)
    if rows["reason"].null_count < rows.num_rows:
        is_usable = pc.is_null(rows["reason"])
        usable, rejects = rows.filter(is_usable), rows.filter(pc.invert(is_usable))
    return make_chunk(number, usable.select(schemas.USABLE.names), rejects, parameters)


def make_chunk(number: tuple[int, ...], usable: pa.Table, rejects: pa.Table, parameters: Parameters) -> Chunk:
    """A chunk of rows of `schemas.USABLE` and of `schemas.REJECTS`, whose texts may be coded."""
    rejects = rejects.select(schemas.REJECTS.names).cast(schemas.REJECTS)
    usable_run, usable_sample = sorted_run(number, with_keys(usable, parameters), ranking_order(parameters))
    rejects_run, rejects_sample = sorted_run(number, rejects, REJECTS_ORDER)
    few = rejects_run if len(rejects_run.rows) <= FEW_BYTES else None
    summary = Summary(count(usable, rejects), usable_sample, rejects_sample, few)
    return Chunk(usable_run, rejects_run, summary)
