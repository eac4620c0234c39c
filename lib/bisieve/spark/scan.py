"""Runs the engine-free scan on Spark: splits of shards in, chunks of scored rollouts out."""

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain

import numpy as np
from pyspark import RDD, SparkContext, StorageLevel

from bisieve.manifest import Parameters
from bisieve.reading import Layout
from bisieve.scan.assemble import assemble_unsorted
from bisieve.scan.chunks import Chunk, chunked
from bisieve.scan.formats import scan_rollout_split, scan_step_split
from bisieve.scan.gather import gathered, partitions
from bisieve.scan.options import ScanOptions
from bisieve.scan.parting import parted_by_rollout
from bisieve.scan.touched import Hashes, NamedRollouts, hashed
from bisieve.shards import Split, is_seekable
from bisieve.sort.runs import from_bytes
from bisieve.spark.kept import Older, kept_chunks, num_readers, steps_again
from bisieve.spark.progress import Scanned
from bisieve.spark.stages import name_jobs

Tasks = Sequence[Sequence[Split]]
Pieces = RDD[tuple[int, bytes]]  # steps, by the part that their rollout falls in


def scan_corpus(
    context: SparkContext,
    tasks: Mapping[Layout, Tasks],
    parameters: Parameters,
    scanned: Scanned,
    older: Older | None = None,
) -> "list[RDD[Chunk]]":
    """Every rollout of the splits, one task an entry of ``tasks``, and of ``older``, scored or rejected."""
    options = ScanOptions(parameters.alpha, parameters.threshold, parameters.reading)
    rollouts, steps = tasks.get("rollouts", []), tasks.get("steps", [])
    found = [_scan_rollouts(context, rollouts, options, parameters, scanned)] if rollouts else []
    readers = 0 if older is None else num_readers(context, older)
    num_parts = _num_parts(steps, readers)
    pieces = [_scan_steps(context, steps, options, scanned, num_parts)] if steps else []
    kept = []
    if older is not None:
        named = context.broadcast(_named(context, pieces if readers else []))
        kept.append(kept_chunks(context, older, named, parameters).map(scanned.count_kept))
        if readers:
            pieces.append(steps_again(context, older, named, parameters, num_parts, scanned))
    if pieces:
        together = context.union(pieces).partitionBy(num_parts, int)
        found.append(_assembled(together, options, parameters, len(rollouts)))
    return [*(chunks.map(scanned.count_records) for chunks in found), *kept]


def _scan_rollouts(
    context: SparkContext, tasks: Tasks, options: ScanOptions, parameters: Parameters, scanned: Scanned
) -> "RDD[Chunk]":
    def scan(task: tuple[int, Sequence[Split]]) -> Iterator[Chunk]:
        settle()
        number, mine = task
        scanned.count_splits(mine)
        batches = chain.from_iterable(scan_rollout_split(split, options) for split in mine)
        return chunked(number, batches, parameters)

    return context.parallelize(list(enumerate(tasks)), len(tasks)).flatMap(scan)


def _num_parts(tasks: Tasks, at_least: int) -> int:
    every = [split for mine in tasks for split in mine]
    compressed = sum(split.stored for split in every if not is_seekable(split.shard))
    return partitions(
        sum(split.stored for split in every) - compressed, compressed, max(len(tasks), at_least)
    )


def _scan_steps(
    context: SparkContext, tasks: Tasks, options: ScanOptions, scanned: Scanned, num_parts: int
) -> Pieces:
    def part(mine: Sequence[Split]) -> Iterator[tuple[int, bytes]]:
        settle()
        scanned.count_splits(mine)
        batches = chain.from_iterable(scan_step_split(split, options) for split in mine)
        return parted_by_rollout(batches, num_parts)

    return context.parallelize(tasks, len(tasks)).flatMap(part)


def _named(context: SparkContext, scans: list[Pieces]) -> NamedRollouts:
    """The rollouts whose steps were scanned; the steps are kept, to be read but once."""

    def names(pieces: Iterable[tuple[int, bytes]]) -> Iterator[Hashes]:
        found = [hashed(from_bytes(rows, ["rollout_id"])["rollout_id"]) for _, rows in pieces]
        if found:
            yield np.unique(np.concatenate(found))

    name_jobs(context, "scan")
    scans = [pieces.persist(StorageLevel.MEMORY_AND_DISK) for pieces in scans]
    return NamedRollouts.of([part for pieces in scans for part in pieces.mapPartitions(names).collect()])


def _assembled(
    pieces: Pieces, options: ScanOptions, parameters: Parameters, first_number: int
) -> "RDD[Chunk]":
    def bring_together(number: int, mine: Iterable[tuple[int, bytes]]) -> Iterator[Chunk]:
        tables = gathered(rows for _, rows in mine)
        batches = chain.from_iterable(assemble_unsorted(table, options) for table in tables)
        return chunked(first_number + number, batches, parameters)

    return pieces.mapPartitionsWithIndex(bring_together)


@cache
def settle() -> None:
    """Tells the garbage collector that what is imported stays: Spark's worker runs it after every task."""
    gc.freeze()
