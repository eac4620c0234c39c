"""Run the scan on an engine: splits of shards in, chunks of scored rollouts out.

rollouts layout:  splits ──_scan_rollouts──▶ chunks
steps layout:     splits ──_scan_steps──▶ pieces ──by_number (shuffle by rollout)──▶ _assemble ──▶ chunks
older index:      kept_chunks ──▶ chunks;  steps_again ──▶ pieces, as of the steps layout
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TypeAlias

import pyarrow as pa

from bisieve.io.storage import FileInfo
from bisieve.io.urls import is_seekable
from bisieve.pipeline.engine import Engine, Parts, Scanned
from bisieve.pipeline.incremental import Older, kept_chunks, num_readers, steps_again
from bisieve.ranking.sort import from_bytes
from bisieve.records.options import Layout, Parameters, ReadOptions
from bisieve.scan import scan_rollout_split, scan_step_split
from bisieve.scan.batches import ScanOptions
from bisieve.scan.chunks import Chunk, chunked
from bisieve.scan.group_steps import assemble_unsorted, gathered, parted_by_rollout
from bisieve.scan.reuse import Hashes, NamedRollouts, hashed
from bisieve.shards.layout import Found, find_layouts
from bisieve.shards.listing import Split

SHARDS_A_TASK = 256  # shards whose layout one task detects from their first records
PART_TEXT = 64 * 2**20  # bytes of uncompressed text whose steps one task groups
_COMPRESSED = 10  # bytes of text per byte of a compressed or Parquet shard, about

Tasks = Sequence[Sequence[Split]]
Pieces = Parts[tuple[int, bytes]]  # (part that the rollout is hashed to, Arrow stream of its steps)
ScanSplit: TypeAlias = Callable[[Split, ScanOptions], Iterator[pa.RecordBatch]]


def layouts_by_tasks(engine: Engine, shards: Sequence[FileInfo], reading: ReadOptions) -> Found:
    """Return the result of `layout.find_layouts`, computed in tasks of `SHARDS_A_TASK` shards."""
    starts = range(0, len(shards), SHARDS_A_TASK)
    some = engine.spread([shards[start : start + SHARDS_A_TASK] for start in starts])
    found: Found = {}
    for part in some.map(partial(find_layouts, reading=reading)).collect("scan"):
        found |= part
    return found


def scan_corpus(
    engine: Engine,
    tasks: Mapping[Layout, Tasks],
    parameters: Parameters,
    scanned: Scanned,
    older: Older | None = None,
) -> list[Parts[Chunk]]:
    """Return chunks of all rollouts, scored or rejected, of the splits and of the older index.

    Args:
        engine: Runs the tasks.
        tasks: By layout, the splits that each scan task reads.
        parameters: How records are read, scored and sorted.
        scanned: Counters of the scan.
        older: The index version to reuse; None to scan only.

    Returns:
        Collections whose union is all chunks; [] if there is nothing to scan or to reuse.
    """
    options = ScanOptions(parameters.alpha, parameters.threshold, parameters.reading)
    rollouts, steps = tasks.get("rollouts", []), tasks.get("steps", [])
    found: list[Parts[Chunk]] = []
    if rollouts:
        scan = partial(_scan_rollouts, scan_rollout_split, options, parameters, scanned)
        found.append(engine.spread(list(enumerate(rollouts))).flat_map(scan))
    readers = 0 if older is None else num_readers(engine, older)
    num_parts = _num_parts(steps, readers)
    part = partial(_scan_steps, options, scanned, num_parts)
    pieces: list[Pieces] = [engine.spread(steps).flat_map(part)] if steps else []
    kept = []
    if older is not None:
        names: list[Hashes] = []
        if pieces and readers:
            # Stored, since it is used twice (names, then steps) and its shards are to be read once.
            pieces[0], names = pieces[0].keep("scan", _names)
        named = engine.share(NamedRollouts.of(names))
        kept.append(kept_chunks(engine, older, named, parameters).map(scanned.count_kept))
        if readers:
            pieces.append(steps_again(engine, older, named, parameters, num_parts, scanned))
    if pieces:
        together = engine.union(pieces).by_number(num_parts, "scan")
        assemble = partial(_assemble, options, parameters, len(rollouts), engine.scratch)
        found.append(together.map_parts(assemble))
    return [*(chunks.map(scanned.count_records) for chunks in found), *kept]


def _scan_rollouts(
    scan_split: ScanSplit,
    options: ScanOptions,
    parameters: Parameters,
    scanned: Scanned,
    task: tuple[int, Sequence[Split]],
) -> Iterator[Chunk]:
    number, splits = task
    scanned.count_splits(splits)
    batches = chain.from_iterable(scan_split(split, options) for split in splits)
    return chunked(number, batches, parameters)


def _num_parts(tasks: Tasks, at_least: int) -> int:
    every = [split for mine in tasks for split in mine]
    compressed = sum(split.stored for split in every if not is_seekable(split.shard))
    return partitions(
        sum(split.stored for split in every) - compressed, compressed, max(len(tasks), at_least)
    )


def partitions(stored: int, stored_compressed: int, at_least: int) -> int:
    """Return the number of partitions in which steps are grouped, about one per `PART_TEXT` of text.

    Args:
        stored: Bytes of plain JSONL shards.
        stored_compressed: Bytes of compressed and Parquet shards.
        at_least: The smallest number to return.
    """
    text = stored + _COMPRESSED * stored_compressed
    return max(at_least, -(-text // PART_TEXT))


def _scan_steps(
    options: ScanOptions, scanned: Scanned, num_parts: int, splits: Sequence[Split]
) -> Iterator[tuple[int, bytes]]:
    scanned.count_splits(splits)
    batches = chain.from_iterable(scan_step_split(split, options) for split in splits)
    return parted_by_rollout(batches, num_parts)


def _names(piece: tuple[int, bytes]) -> Hashes:
    """Return the hashes of the rollout ids in a piece."""
    return hashed(from_bytes(piece[1], ["rollout_id"])["rollout_id"])


def _assemble(
    options: ScanOptions,
    parameters: Parameters,
    first_number: int,
    scratch: str | None,
    number: int,
    pieces: Iterable[tuple[int, bytes]],
) -> Iterator[Chunk]:
    tables = gathered((rows for _, rows in pieces), scratch)
    batches = chain.from_iterable(assemble_unsorted(table, options) for table in tables)
    return chunked(first_number + number, batches, parameters)
