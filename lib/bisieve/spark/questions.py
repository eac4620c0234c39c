"""Brings the rollouts of each question together, to tell first ones from second ones."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark import RDD, StorageLevel

from bisieve.manifest import Parameters
from bisieve.ranking import ranking_order, with_occurrence
from bisieve.sort.runs import Run, Sample, sorted_run, to_bytes
from bisieve.spark.stages import name_jobs


def with_occurrences(runs: "RDD[Run]", parameters: Parameters) -> tuple["RDD[Run]", list[Sample]]:
    """The same rollouts with `ranking.with_occurrence`; persisted."""
    num_parts = runs.getNumPartitions()

    def part(run: Run) -> Iterator[tuple[int, Run]]:
        rows = run.table
        owner = np.array([int(name[:8], 16) % num_parts for name in rows["question_id"].to_pylist()])
        for number in np.unique(owner).tolist():
            yield number, Run(run.number, to_bytes(rows.filter(pa.array(owner == number))))

    def order(number: int, pieces: Iterable[tuple[int, Run]]) -> Iterator[tuple[Run, Sample]]:
        tables = [piece.table for _, piece in pieces]
        if tables:
            rows = with_occurrence(pa.concat_tables(tables).combine_chunks(), parameters)
            yield sorted_run((number,), rows, ranking_order(parameters))

    ordered = runs.flatMap(part).partitionBy(num_parts, int).mapPartitionsWithIndex(order)
    ordered.persist(StorageLevel.MEMORY_AND_DISK)
    name_jobs(runs.context, "spread")
    return ordered.map(lambda both: both[0]), ordered.map(lambda both: both[1]).collect()
