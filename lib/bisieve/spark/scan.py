"""Runs the engine-free scan on Spark: splits of shards in, chunks of scored rollouts out."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain

from pyspark import RDD, SparkContext

from bisieve.manifest import Parameters
from bisieve.reading import Layout
from bisieve.scan.assemble import assemble_unsorted
from bisieve.scan.chunks import Chunk, chunked
from bisieve.scan.formats import scan_rollout_split, scan_step_split
from bisieve.scan.gather import gathered, partitions
from bisieve.scan.options import ScanOptions
from bisieve.scan.steps import parted_by_rollout
from bisieve.shards import Split, is_seekable

Tasks = Sequence[Sequence[Split]]
Begin = Callable[[Sequence[Split]], None]


def scan_corpus(
    context: SparkContext, tasks: Mapping[Layout, Tasks], parameters: Parameters, begin: Begin
) -> "list[RDD[Chunk]]":
    """Every rollout of the splits, scored or rejected, by layout; one task an entry of ``tasks``.

    Each task calls ``begin`` with its splits.
    """
    options = ScanOptions(parameters.alpha, parameters.threshold, parameters.reading)
    rollouts, steps = tasks.get("rollouts", []), tasks.get("steps", [])
    scans = []
    if rollouts:
        scans.append(_scan_rollouts(context, rollouts, options, parameters, begin))
    if steps:
        scans.append(_scan_steps(context, steps, options, parameters, begin, len(rollouts)))
    return scans


def _scan_rollouts(
    context: SparkContext, tasks: Tasks, options: ScanOptions, parameters: Parameters, begin: Begin
) -> "RDD[Chunk]":
    def scan(task: tuple[int, Sequence[Split]]) -> Iterator[Chunk]:
        settle()
        number, mine = task
        begin(mine)
        batches = chain.from_iterable(scan_rollout_split(split, options) for split in mine)
        return chunked(number, batches, parameters)

    return context.parallelize(list(enumerate(tasks)), len(tasks)).flatMap(scan)


def _scan_steps(
    context: SparkContext,
    tasks: Tasks,
    options: ScanOptions,
    parameters: Parameters,
    begin: Begin,
    first_number: int,
) -> "RDD[Chunk]":
    every = [split for mine in tasks for split in mine]
    compressed = sum(split.stored for split in every if not is_seekable(split.shard))
    num_parts = partitions(sum(split.stored for split in every) - compressed, compressed, len(tasks))

    def part(task: tuple[int, Sequence[Split]]) -> Iterator[tuple[int, bytes]]:
        settle()
        begin(task[1])
        batches = chain.from_iterable(scan_step_split(split, options) for split in task[1])
        return parted_by_rollout(batches, num_parts)

    def bring_together(number: int, pieces: Iterable[tuple[int, bytes]]) -> Iterator[Chunk]:
        tables = gathered(rows for _, rows in pieces)
        batches = chain.from_iterable(assemble_unsorted(table, options) for table in tables)
        return chunked(first_number + number, batches, parameters)

    splits = context.parallelize(list(enumerate(tasks)), len(tasks))

    return splits.flatMap(part).partitionBy(num_parts, int).mapPartitionsWithIndex(bring_together)


@cache
def settle() -> None:
    """Tells the garbage collector that what is imported stays: Spark's worker runs it after every task."""
    gc.freeze()
