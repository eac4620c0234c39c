"""Sort scanned rollouts and rejected records, and write them as the Parquet files of an index version."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from operator import attrgetter, itemgetter

import numpy as np
import pyarrow as pa

from bisieve import schemas
from bisieve.index import writer
from bisieve.index.manifest import DataFile
from bisieve.index.writer import RankedFile, part_path, write_part, write_ranked_file
from bisieve.pipeline.engine import Engine, Parts, Shared
from bisieve.pipeline.group_passes import grouped_runs
from bisieve.pipeline.sorted_files import sorted_files
from bisieve.ranking.order import INDEX_ORDER, REJECTS_ORDER, group_passes_of, ranking_order
from bisieve.ranking.sort import Run, Sample, codes_and_texts, sorted_indices, sorted_run
from bisieve.records.options import Parameters
from bisieve.scan.chunks import Summary, Totals


def write_ranked(
    engine: Engine,
    runs: Parts[Run],
    samples: Sequence[Sample],
    parameters: Parameters,
    totals: Totals,
    index: str,
    folder: str,
) -> list[RankedFile]:
    """Rank usable rollouts and write them as Parquet files, ordered by (source, rank).

    Args:
        engine: Runs the tasks.
        runs: Runs sorted by `ranking_order`; read twice, so they should be kept.
        samples: The sample of each run.
        parameters: Of the ranking.
        totals: Counts of all usable rollouts.
        index: URL of the index.
        folder: Folder of the files, relative to the index.

    Returns:
        The files written, in order.

    Raises:
        StorageError: A file cannot be written.
    """
    rows_per_file = writer.ROWS_PER_FILE
    order = ranking_order(parameters)
    for step in group_passes_of(parameters):
        runs, samples = grouped_runs(engine, runs, step, parameters, rows_per_file)
    if parameters.scope == "global":
        ranked = sorted_files(engine, runs, samples, order, rows_per_file, _ranked_over_all, "rank")
        both, samples = ranked.keep("rank", itemgetter(1))
        runs, order = both.map(itemgetter(0)), INDEX_ORDER
    sources = engine.share(_Sources.of(totals, parameters))
    write = _Write(write_ranked_file, index, folder, writer.ROWS_PER_GROUP, sources)
    files = sorted_files(engine, runs, samples, order, rows_per_file, write, "write")
    return sorted(files.collect("write"), key=lambda ranked: ranked.file.path)


@dataclass(frozen=True)
class _Sources:
    """What a task needs of all sources to write a file; shared, since there may be very many sources."""

    scope: str
    rollouts: Mapping[str, int]  # usable rollouts by source
    starts: Mapping[str, int]  # by source, the number of its first row in the whole index, from 0
    dropped: Mapping[str, int]  # by source, the rollouts that are never selected

    @staticmethod
    def of(totals: Totals, parameters: Parameters) -> "_Sources":
        rollouts = totals.rollouts
        starts = dict(zip(rollouts, accumulate(rollouts.values(), initial=0), strict=False))
        return _Sources(parameters.scope, rollouts, starts, totals.dropped(parameters))


@dataclass(frozen=True)
class _Write:
    """Function that writes one ranked file, in a task; with scope "source" it computes the ranks, too."""

    write_file: Callable[..., RankedFile]
    index: str
    folder: str
    rows_per_group: int
    sources: Shared[_Sources]

    def __call__(self, number: int, first_row: int, rows: pa.Table) -> RankedFile:
        sources = self.sources.value
        if sources.scope == "source":
            codes, names = codes_and_texts(rows["source"])
            before = np.array([sources.starts.get(name, 0) for name in names], np.int64)[codes]
            rank = first_row + 1 + np.arange(rows.num_rows) - before
            rows = rows.append_column("rank", pa.array(rank))
        path = part_path(self.folder, number)
        return self.write_file(
            self.index, path, rows, self.rows_per_group, sources.rollouts, sources.scope, sources.dropped
        )


def _ranked_over_all(number: int, first_row: int, rows: pa.Table) -> tuple[Run, Sample]:
    ranks = pa.array(first_row + 1 + np.arange(rows.num_rows))
    return sorted_run((number,), rows.append_column("rank", ranks), INDEX_ORDER)


def write_rejects(
    engine: Engine, runs: Parts[Run], summaries: Sequence[Summary], index: str, folder: str
) -> list[DataFile]:
    """Write rejected records as Parquet files, ordered by (shard, offset).

    The driver writes them itself if every chunk has few of them.

    Args:
        engine: Runs the tasks.
        runs: The rejects of each chunk; kept.
        summaries: The summary of each chunk.
        index: URL of the index.
        folder: Folder of the files, relative to the index.

    Returns:
        The files written, in order; none if there are no rejects.

    Raises:
        StorageError: A file cannot be written.
    """
    samples = [summary.rejects_sample for summary in summaries]
    if not any(sum(sample.weights) for sample in samples):
        return []
    few = [summary.few_rejects for summary in summaries if summary.few_rejects is not None]
    if len(few) == len(summaries):
        return write_few_rejects(few, index, folder)
    write = partial(_write_rejects, index, folder, writer.ROWS_PER_GROUP)
    files = sorted_files(engine, runs, samples, REJECTS_ORDER, writer.ROWS_PER_FILE, write, "rejects")
    return sorted(files.collect("rejects"), key=attrgetter("path"))


def _write_rejects(
    index: str, folder: str, rows_per_group: int, number: int, first_row: int, rows: pa.Table
) -> DataFile:
    return write_part(index, part_path(folder, number), rows, schemas.REJECTS, rows_per_group)


def write_few_rejects(runs: Sequence[Run], index: str, folder: str) -> list[DataFile]:
    """Write the files of `write_rejects`, byte for byte the same, on the driver from at least one run."""
    rows = pa.concat_tables([run.table for run in runs])
    rows = rows.take(sorted_indices(rows, REJECTS_ORDER))
    return [
        write_part(
            index, part_path(folder, number), rows.slice(start, writer.ROWS_PER_FILE),
            schemas.REJECTS, writer.ROWS_PER_GROUP,
        )
        for number, start in enumerate(range(0, rows.num_rows, writer.ROWS_PER_FILE))
    ]  # fmt: skip
