"""Runs the engine-free scan on Spark: splits of shards in, chunks of scored rollouts out."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain

from pyspark import RDD, SparkContext

from bisieve.lines import codec_of
from bisieve.manifest import Parameters
from bisieve.scan.assemble import assemble_unsorted
from bisieve.scan.chunks import Chunk, chunked
from bisieve.scan.gather import gathered, partitions
from bisieve.scan.options import ScanOptions
from bisieve.scan.rollouts import scan_rollouts
from bisieve.scan.steps import parted_by_rollout, scan_steps
from bisieve.shards import Split


def scan_corpus(
    context: SparkContext, tasks: Sequence[Sequence[Split]], parameters: Parameters
) -> "RDD[Chunk]":
    """Every rollout of the splits, scored or rejected; one task an entry of ``tasks``."""
    options = ScanOptions(parameters.alpha, parameters.threshold, parameters.source_field)
    splits = context.parallelize(list(enumerate(tasks)), len(tasks))
    if parameters.layout == "rollouts":

        def scan(task: tuple[int, Sequence[Split]]) -> Iterator[Chunk]:
            settle()
            number, mine = task
            batches = chain.from_iterable(scan_rollouts(split, options) for split in mine)
            return chunked(number, batches, parameters)

        return splits.flatMap(scan)

    every = [split for mine in tasks for split in mine]
    compressed = sum(split.stored for split in every if codec_of(split.shard) is not None)
    num_parts = partitions(sum(split.stored for split in every) - compressed, compressed, len(tasks))

    def part(task: tuple[int, Sequence[Split]]) -> Iterator[tuple[int, bytes]]:
        settle()
        batches = chain.from_iterable(scan_steps(split, options) for split in task[1])
        return parted_by_rollout(batches, num_parts)

    def bring_together(number: int, pieces: Iterable[tuple[int, bytes]]) -> Iterator[Chunk]:
        tables = gathered(rows for _, rows in pieces)
        batches = chain.from_iterable(assemble_unsorted(table, options) for table in tables)
        return chunked(number, batches, parameters)

    return splits.flatMap(part).partitionBy(num_parts, int).mapPartitionsWithIndex(bring_together)


@cache
def settle() -> None:
    """Tells the garbage collector that what is imported stays: Spark's worker runs it after every task."""
    gc.freeze()
