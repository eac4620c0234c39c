"""Writes what was scanned as the ranked files of an index version."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
import pyarrow as pa
from pyspark import RDD, StorageLevel

from bisieve import parts, schema
from bisieve.coded import codes_and_texts
from bisieve.manifest import DataFile, Parameters
from bisieve.parts import part_path, write_part
from bisieve.ranked import RankedFile, write_ranked_file
from bisieve.ranking import INDEX_ORDER, REJECTS_ORDER, ranking_order
from bisieve.scan.chunks import Summary
from bisieve.sort.keys import sorted_indices
from bisieve.sort.runs import Run, Sample, sorted_run
from bisieve.spark.questions import with_occurrences
from bisieve.spark.sort import sorted_files
from bisieve.spark.stages import name_jobs


def write_ranked(
    runs: "RDD[Run]",
    samples: Sequence[Sample],
    parameters: Parameters,
    rollouts: Mapping[str, int],
    index: str,
    folder: str,
) -> list[RankedFile]:
    """Writes usable rollouts by (source, rank).

    ``rollouts`` gives the usable rollouts of each source.
    """
    rows_per_file, rows_per_group = parts.ROWS_PER_FILE, parts.ROWS_PER_GROUP
    order = ranking_order(parameters)
    if parameters.ties == "spread":
        runs, samples = with_occurrences(runs, parameters, rows_per_file)
    if parameters.scope == "global":
        runs, samples = _ranked_over_all(runs, samples, parameters, rows_per_file)
        order = INDEX_ORDER
    starts = dict(zip(rollouts, accumulate(rollouts.values(), initial=0), strict=False))
    rollouts, scope = dict(rollouts), parameters.scope

    def write(number: int, first_row: int, rows: pa.Table) -> RankedFile:
        if scope == "source":
            codes, sources = codes_and_texts(rows["source"])
            before = np.array([starts.get(source, 0) for source in sources], np.int64)[codes]
            rank = first_row + 1 + np.arange(rows.num_rows) - before
            rows = rows.append_column("rank", pa.array(rank))
        return write_ranked_file(index, part_path(folder, number), rows, rows_per_group, rollouts, scope)

    files = sorted_files(runs, samples, order, rows_per_file, write)
    name_jobs(runs.context, "write")
    return sorted(files.collect(), key=lambda ranked: ranked.file.path)


def write_rejects(runs: "RDD[Run]", summaries: Sequence[Summary], index: str, folder: str) -> list[DataFile]:
    """Writes rejected records by shard and offset; no file where there are none."""
    samples = [summary.rejects_sample for summary in summaries]
    if not any(sum(sample.weights) for sample in samples):
        return []
    few = [summary.few_rejects for summary in summaries if summary.few_rejects is not None]
    if len(few) == len(summaries):
        return write_few_rejects(few, index, folder)
    rows_per_group = parts.ROWS_PER_GROUP

    def write(number: int, first_row: int, rows: pa.Table) -> DataFile:
        return write_part(index, part_path(folder, number), rows, schema.REJECTS, rows_per_group)

    files = sorted_files(runs, samples, REJECTS_ORDER, parts.ROWS_PER_FILE, write)
    name_jobs(runs.context, "rejects")
    return sorted(files.collect(), key=lambda file: file.path)


def write_few_rejects(runs: Sequence[Run], index: str, folder: str) -> list[DataFile]:
    """The same files, by the driver alone."""
    rows = pa.concat_tables([run.table for run in runs])
    rows = rows.take(sorted_indices(rows, REJECTS_ORDER))
    return [
        write_part(
            index, part_path(folder, number), rows.slice(start, parts.ROWS_PER_FILE),
            schema.REJECTS, parts.ROWS_PER_GROUP,
        )
        for number, start in enumerate(range(0, rows.num_rows, parts.ROWS_PER_FILE))
    ]  # fmt: skip


def _ranked_over_all(
    runs: "RDD[Run]", samples: Sequence[Sample], parameters: Parameters, rows_per_run: int
) -> tuple["RDD[Run]", list[Sample]]:
    def rank(number: int, first_row: int, rows: pa.Table) -> tuple[Run, Sample]:
        ranks = pa.array(first_row + 1 + np.arange(rows.num_rows))
        return sorted_run((number,), rows.append_column("rank", ranks), INDEX_ORDER)

    ranked = sorted_files(runs, samples, ranking_order(parameters), rows_per_run, rank)
    ranked.persist(StorageLevel.MEMORY_AND_DISK)
    name_jobs(runs.context, "rank")
    return ranked.map(lambda both: both[0]), ranked.map(lambda both: both[1]).collect()
