"""Runs the external sort on Spark, which carries bytes: no row is ever seen by the JVM.

runs ──count──▶ cuts on the driver;  runs ──pieces──▶ shuffle by file ──▶ one task a file
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from pyspark import RDD

from bisieve.sort.cuts import Bounds, Cuts, choose_bounds
from bisieve.sort.keys import Order
from bisieve.sort.runs import Run, Sample
from bisieve.spark.stages import name_jobs

Result = TypeVar("Result")


def sorted_files(
    runs: "RDD[Run]",
    samples: Sequence[Sample],
    order: Order,
    rows_per_file: int,
    use: Callable[[int, int, pa.Table], Result],
) -> "RDD[Result]":
    """``use(file, first_row, rows)`` for each file of the sorted whole, in a task of its own.

    ``runs`` is read twice: persist it.  Rows are numbered from 0; every file has ``rows_per_file`` rows, the
    last one perhaps fewer; there must be a row.
    """
    num_rows = sum(sum(sample.weights) for sample in samples)
    num_files = -(-num_rows // rows_per_file)
    cuts = runs.context.broadcast(_cuts(runs, samples, order, num_rows, rows_per_file))

    def merge(file: int, pieces: Iterable[tuple[int, Run]]) -> Iterator[Result]:
        yield use(file, *cuts.value.merged(file, (piece for _, piece in pieces)))

    pieces: RDD[tuple[int, Run]] = runs.flatMap(lambda run: cuts.value.pieces(run))
    return pieces.partitionBy(num_files, int).mapPartitionsWithIndex(merge)


def _cuts(
    runs: "RDD[Run]", samples: Sequence[Sample], order: Order, num_rows: int, rows_per_file: int
) -> Cuts:
    if num_rows <= rows_per_file:
        return Cuts(choose_bounds(samples[:1], order, 1), np.array([num_rows]), rows_per_file)
    bounds = choose_bounds(samples, order, 8 * -(-num_rows // rows_per_file))
    shared = runs.context.broadcast(bounds)

    def count(part: Iterable[Run]) -> Iterator[Any]:
        known: Bounds = shared.value
        counts = [known.counts(run) for run in part]
        if counts:
            yield np.sum(counts, axis=0)

    name_jobs(runs.context, "count")
    return Cuts(bounds, runs.mapPartitions(count).treeReduce(np.add), rows_per_file)
