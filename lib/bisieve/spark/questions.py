"""Brings the rollouts of each question together, to tell first ones from second ones."""

import pyarrow as pa
from pyspark import RDD, StorageLevel

from bisieve.manifest import Parameters
from bisieve.occurrence import Ends, continued, counted_before, ends
from bisieve.ranking import question_order, ranking_order, with_occurrence
from bisieve.sort.runs import Run, Sample, sorted_run, to_bytes
from bisieve.spark.sort import sorted_files
from bisieve.spark.stages import name_jobs


def with_occurrences(
    runs: "RDD[Run]", parameters: Parameters, rows_per_piece: int
) -> tuple["RDD[Run]", list[Sample]]:
    """The same rollouts with their place in their question as ``tie``; persisted.

    Sorted by question and cut into pieces of equal size, not parted by question: one that has most of the
    rollouts would make one task hold them.
    """

    def by_question(run: Run) -> tuple[Run, Sample]:
        return sorted_run(run.number, run.table, question_order(parameters))

    def count(number: int, first_row: int, rows: pa.Table) -> tuple[Run, Ends]:
        counted = with_occurrence(rows, parameters)
        return Run((number,), to_bytes(counted)), ends(counted, parameters)

    asked = runs.map(by_question).persist(StorageLevel.MEMORY_AND_DISK)
    name_jobs(runs.context, "spread")
    samples = asked.map(lambda both: both[1]).collect()
    pieces = sorted_files(
        asked.map(lambda both: both[0]), samples, question_order(parameters), rows_per_piece, count
    ).persist(StorageLevel.MEMORY_AND_DISK)
    name_jobs(runs.context, "spread")
    before = counted_before(
        [found for _, found in sorted(pieces.map(lambda both: (both[0].number, both[1])).collect())]
    )

    def go_on(piece: tuple[Run, Ends]) -> tuple[Run, Sample]:
        run = piece[0]
        rows = continued(run.table, parameters, before[run.number[0]])
        return sorted_run(run.number, rows, ranking_order(parameters))

    ordered = pieces.map(go_on).persist(StorageLevel.MEMORY_AND_DISK)
    order_samples = ordered.map(lambda both: both[1]).collect()
    for used in (asked, pieces):
        used.unpersist()
    return ordered.map(lambda both: both[0]), order_samples
