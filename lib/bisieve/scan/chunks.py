"""The output of a scan: chunks, each a sorted run of usable rollouts and one of rejects, with counts.

batches of `schemas.SCORED` ──chunked──▶ `Chunk`s;  totals of all chunks ──add_up──▶ `Totals` of the index
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisieve import schemas
from bisieve.ranking.order import REJECTS_ORDER, ranking_order, with_keys
from bisieve.ranking.sort import Run, Sample, sorted_run
from bisieve.records.options import Parameters

COUNTED = ("rollouts", "steps", "mixed", "all_positive", "all_negative")  # counts of each source

CHUNK_ROWS = 2**16
CHUNK_BYTES = 24 * 2**20
# A chunk's rejects up to this size are sent to the driver, which can hold as much from every chunk of the
# largest corpus.
FEW_BYTES = 2**14


@dataclass
class Totals:
    """Counts of scanned rows, usable and rejected."""

    sources: dict[str, list[int]] = field(default_factory=dict)  # by source, the counts of COUNTED
    rejected: dict[tuple[str, str], int] = field(default_factory=dict)  # by (source, reason)
    first: dict[str, tuple[str, int]] = field(default_factory=dict)  # by reason, first (shard, offset)
    shards: dict[str, list[int]] = field(default_factory=dict)  # by shard, [usable rollouts, rejects]

    @property
    def rollouts(self) -> dict[str, int]:
        """Return the number of usable rollouts by source, ordered by name; sources with none are left out."""
        return {source: self.sources[source][0] for source in sorted(self.sources)}

    def dropped(self, parameters: Parameters) -> dict[str, int]:
        """Return how many rollouts of each source are never selected: with all_negative=drop, these."""
        place = COUNTED.index("all_negative")
        if parameters.all_negative != "drop":
            return {}
        return {source: counts[place] for source, counts in self.sources.items()}

    @property
    def num_rollouts(self) -> int:
        """Return the number of usable rollouts."""
        return sum(counts[0] for counts in self.sources.values())

    @property
    def num_rejected(self) -> int:
        """Return the number of rejects (rows of `schemas.REJECTS`)."""
        return sum(self.rejected.values())

    @property
    def rejected_by_reason(self) -> dict[str, int]:
        """Return the number of rejects by reason, over all sources, ordered by reason."""
        counts: dict[str, int] = {}
        for (_, reason), number in sorted(self.rejected.items(), key=lambda entry: entry[0][1]):
            counts[reason] = counts.get(reason, 0) + number
        return counts

    @property
    def examples(self) -> dict[str, str]:
        """Return the place of the first rejected record by reason, as "shard@offset"."""
        return {reason: f"{shard}@{offset}" for reason, (shard, offset) in sorted(self.first.items())}


def count(usable: pa.Table, rejects: pa.Table) -> Totals:
    """Return the totals of usable rollouts and rejects.

    Args:
        usable: Rows of `schemas.USABLE`.
        rejects: Rows of `schemas.REJECTS`.
    """
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
    """Return the sum of ``parts``, which may share lists with the result."""
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
        # Most names are in one part only: its list is used as it is, not copied.
        whole[name] = numbers if before is None else [a + b for a, b in zip(before, numbers, strict=True)]


@dataclass(frozen=True)
class Summary:
    """What the driver gets of a chunk."""

    totals: Totals
    usable_sample: Sample
    rejects_sample: Sample
    few_rejects: Run | None  # all rejects if they have at most `FEW_BYTES`, else None


@dataclass(frozen=True)
class Chunk:
    """A part of the scanned rollouts, of bounded size."""

    usable: Run  # of `schemas.USABLE` with key and tie, in `ranking_order`
    rejects: Run  # of `schemas.REJECTS`, in `REJECTS_ORDER`
    summary: Summary


def chunked(number: int, batches: Iterable[pa.RecordBatch], parameters: Parameters) -> Iterator[Chunk]:
    """Yield the rows of ``batches`` (`schemas.SCORED`) as chunks of about `CHUNK_ROWS` or `CHUNK_BYTES`.

    Args:
        number: Unique among all streams of a scan; chunk i of this one has the run number ``(number, i)``.
        batches: In any order.
        parameters: Strategy, scope and ties decide how runs are sorted.
    """
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
    """Sort and count rows, and return them as a chunk.

    Args:
        number: Run number, unique among all chunks.
        usable: Rows of `schemas.USABLE`.
        rejects: Rows with the columns of `schemas.REJECTS`; texts may be dictionary-encoded.
        parameters: Strategy, scope and ties decide how runs are sorted.
    """
    rejects = rejects.select(schemas.REJECTS.names).cast(schemas.REJECTS)
    usable_run, usable_sample = sorted_run(number, with_keys(usable, parameters), ranking_order(parameters))
    rejects_run, rejects_sample = sorted_run(number, rejects, REJECTS_ORDER)
    few = rejects_run if len(rejects_run.rows) <= FEW_BYTES else None
    summary = Summary(count(usable, rejects), usable_sample, rejects_sample, few)
    return Chunk(usable_run, rejects_run, summary)
