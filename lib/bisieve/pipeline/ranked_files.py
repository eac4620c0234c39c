"""Rank scanned rollouts, and write them and rejected records as the Parquet files of an index version."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from operator import attrgetter, itemgetter
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa

from bisieve import schemas
from bisieve.index import writer
from bisieve.index.manifest import DataFile
from bisieve.index.writer import RankedFile, part_path, write_part, write_ranked_file
from bisieve.pipeline.engine import Engine, Parts, Shared
from bisieve.pipeline.sort_tasks import grouped_runs, sorted_files
from bisieve.ranking.order import (
    INDEX_ORDER,
    REJECTS_ORDER,
    group_passes_of,
    ranking_order,
    selection_limits,
)
from bisieve.ranking.sort import Run, Sample, codes_and_texts, sorted_indices, sorted_run
from bisieve.records.options import Parameters
from bisieve.scan.chunks import Summary, Totals

Result = TypeVar("Result")


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
    sources = engine.share(Sources.of(totals, parameters))
    write = _Write(write_ranked_file, index, folder, writer.ROWS_PER_GROUP, sources)
    files = ranked_parts(engine, runs, samples, parameters, sources, write, "write")
    return sorted(files.collect("write"), key=lambda ranked: ranked.file.path)


def ranked_parts(
    engine: Engine,
    runs: Parts[Run],
    samples: Sequence[Sample],
    parameters: Parameters,
    sources: "Shared[Sources]",
    use: "Callable[[int, pa.Table], Result]",
    stage: str,
) -> "Parts[Result]":
    """Rank usable rollouts, and call ``use`` on every part of as many rows as a file has.

    Args:
        engine: Runs the tasks.
        runs: As of `write_ranked`.
        samples: As of `write_ranked`.
        parameters: Of the ranking.
        sources: From `Sources.of`.
        use: Called in a task with the part's number, from 0, and its rows with ``rank`` and ``key``; parts
            and rows are ordered by (source, rank).
        stage: One of `STAGES`, for progress.

    Returns:
        A collection with one part a call, which holds what ``use`` returned.
    """
    rows_per_file = writer.ROWS_PER_FILE
    order = ranking_order(parameters)
    for step in group_passes_of(parameters):
        runs, samples = grouped_runs(engine, runs, step, parameters, rows_per_file)
    if parameters.scope == "global":
        ranked = sorted_files(engine, runs, samples, order, rows_per_file, _ranked_over_all, "rank")
        both, samples = ranked.keep("rank", itemgetter(1))
        runs, order = both.map(itemgetter(0)), INDEX_ORDER
    return sorted_files(engine, runs, samples, order, rows_per_file, _WithRanks(sources, use), stage)


@dataclass(frozen=True)
class Sources:
    """What a task needs of all sources to rank rows; shared, since there may be very many sources."""

    scope: str
    rollouts: Mapping[str, int]  # usable rollouts by source
    starts: Mapping[str, int]  # by source, the number of its first row in the whole index, from 0
    dropped: Mapping[str, int]  # by source, the rollouts that are never selected

    @staticmethod
    def of(totals: Totals, parameters: Parameters) -> "Sources":
        """Return them from the counts of all usable rollouts."""
        rollouts = totals.rollouts
        starts = dict(zip(rollouts, accumulate(rollouts.values(), initial=0), strict=False))
        return Sources(parameters.scope, rollouts, starts, totals.dropped(parameters))

    def limits(self, fraction: float, names: Iterable[str]) -> dict[str, int]:
        """Return, by source, the last rank that a selection takes; of the sources ``names``."""
        rollouts = self.rollouts
        if self.scope == "source":
            rollouts = {name: rollouts[name] for name in names if name in rollouts}
        return selection_limits(rollouts, self.scope, fraction, self.dropped)


@dataclass(frozen=True)
class _WithRanks(Generic[Result]):
    """Function that passes on the rows of one part, in a task; with scope "source" it adds their ranks."""

    sources: Shared[Sources]
    use: Callable[[int, pa.Table], Result]

    def __call__(self, number: int, first_row: int, rows: pa.Table) -> Result:
        sources = self.sources.value
        if sources.scope == "source":
            codes, names = codes_and_texts(rows["source"])
            before = np.array([sources.starts.get(name, 0) for name in names], np.int64)[codes]
            rank = first_row + 1 + np.arange(rows.num_rows) - before
            rows = rows.append_column("rank", pa.array(rank))
        return self.use(number, rows)


@dataclass(frozen=True)
class _Write:
    """Function that writes one ranked file, in a task."""

    write_file: Callable[..., RankedFile]
    index: str
    folder: str
    rows_per_group: int
    sources: Shared[Sources]

    def __call__(self, number: int, rows: pa.Table) -> RankedFile:
        sources = self.sources.value
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
