"""Runs the engine-free scan on Spark: splits of shards in, chunks of scored rollouts out."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain

import pyarrow as pa
from pyspark import RDD, SparkContext

from bisieve.manifest import Parameters
from bisieve.scan.assemble import assemble_unsorted
from bisieve.scan.chunks import Chunk, chunked
from bisieve.scan.options import ScanOptions
from bisieve.scan.rollouts import scan_rollouts
from bisieve.scan.steps import parted_by_rollout, scan_steps
from bisieve.shards import Split
from bisieve.sort.runs import from_bytes

Begin = Callable[[Sequence[Split]], None]


def scan_corpus(
    context: SparkContext, tasks: Sequence[Sequence[Split]], parameters: Parameters, begin: Begin
) -> "RDD[Chunk]":
    """Every rollout of the splits, scored or rejected; one task an entry of ``tasks``.

    Each task calls ``begin`` with its splits.
    """
    options = ScanOptions(parameters.alpha, parameters.threshold, parameters.source_field)
    splits = context.parallelize(list(enumerate(tasks)), len(tasks))
    if parameters.layout == "rollouts":

        def scan(task: tuple[int, Sequence[Split]]) -> Iterator[Chunk]:
            settle()
            number, mine = task
            begin(mine)
            batches = chain.from_iterable(scan_rollouts(split, options) for split in mine)
            return chunked(number, batches, parameters)

        return splits.flatMap(scan)

    num_parts = len(tasks)

    def part(task: tuple[int, Sequence[Split]]) -> Iterator[tuple[int, tuple[int, bytes]]]:
        settle()
        number, mine = task
        begin(mine)
        batches = chain.from_iterable(scan_steps(split, options) for split in mine)
        return ((place, (number, rows)) for place, rows in parted_by_rollout(batches, num_parts))

    def bring_together(number: int, parts: Iterable[tuple[int, tuple[int, bytes]]]) -> Iterator[Chunk]:
        tables = [from_bytes(rows) for _, (_, rows) in sorted(parts, key=lambda entry: entry[1][0])]
        if tables:
            yield from chunked(number, assemble_unsorted(pa.concat_tables(tables), options), parameters)

    return splits.flatMap(part).partitionBy(num_parts, int).mapPartitionsWithIndex(bring_together)


@cache
def settle() -> None:
    """Tells the garbage collector that what is imported stays: Spark's worker runs it after every task."""
    gc.freeze()
