"""What a scan hands on: sorted runs of usable and of rejected rollouts, counted and sampled."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from bisieve import schema
from bisieve.manifest import Parameters
from bisieve.ranking import REJECTS_ORDER, ranking_order, with_keys
from bisieve.sort.runs import Run, Sample, sorted_run
from bisieve.totals import Totals, count

CHUNK_ROWS = 2**16
CHUNK_BYTES = 24 * 2**20
FEW_BYTES = 2**14  # of rejects that the driver can take from every chunk of the largest corpus


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
    """Batches of `schema.SCORED` as chunks of bounded size; ``number`` tells this stream from others."""
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
    return make_chunk(number, usable.select(schema.USABLE.names), rejects, parameters)


def make_chunk(number: tuple[int, ...], usable: pa.Table, rejects: pa.Table, parameters: Parameters) -> Chunk:
    """A chunk of rows of `schema.USABLE` and of `schema.REJECTS`, whose texts may be coded."""
    rejects = rejects.select(schema.REJECTS.names).cast(schema.REJECTS)
    usable_run, usable_sample = sorted_run(number, with_keys(usable, parameters), ranking_order(parameters))
    rejects_run, rejects_sample = sorted_run(number, rejects, REJECTS_ORDER)
    few = rejects_run if len(rejects_run.rows) <= FEW_BYTES else None
    summary = Summary(count(usable, rejects), usable_sample, rejects_sample, few)
    return Chunk(usable_run, rejects_run, summary)
