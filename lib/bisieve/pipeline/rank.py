"""Rank an existing index with other parameters, on an engine, without reading its shards."""

from functools import partial
from typing import Any

from bisieve.events import EventSink, null_sink
from bisieve.index.manifest import DataFile
from bisieve.index.reader import Index
from bisieve.index.rerank import count_usable, publish_ranked, read_scored
from bisieve.index.writer import RankedFile
from bisieve.pipeline.engine import BYTES_A_ROLLOUT, Engine, OpenEngine
from bisieve.pipeline.progress import reporter
from bisieve.pipeline.ranked_files import write_ranked
from bisieve.ranking.order import ranking_order, with_keys
from bisieve.ranking.sort import Run, Sample, sorted_run
from bisieve.records.options import Parameters
from bisieve.scan.chunks import Totals, add_up


def rank_index(
    open_engine: OpenEngine, index: Index, parameters: Parameters, output: str, emit: EventSink = null_sink
) -> tuple[Index, bool]:
    """Rank ``index`` with ``parameters`` and publish the result at ``output``.

    Args:
        open_engine: Called with the estimated bytes to process, and only if ``output`` is not up to date.
        index: The version to rank.
        parameters: New parameters, with the read options of the index.
        output: URL of the index to write; may be that of ``index``.
        emit: Gets the events of the run.

    Returns:
        The published version, and False if it was up to date already.

    Raises:
        IndexUnusableError: A file of ``index`` is missing or damaged.
        StorageError: A store cannot be read or written, or another run published at ``output`` meanwhile.
    """

    def rank(*asked: Any) -> tuple[list[RankedFile], Totals]:
        size = BYTES_A_ROLLOUT * index.manifest.rollouts
        with open_engine(size) as engine, engine.watched(reporter(emit)):
            return rank_on(engine, *asked)

    return publish_ranked(index, parameters, output, rank, emit)


def rank_on(
    engine: Engine, index: Index, parameters: Parameters, url: str, folder: str
) -> tuple[list[RankedFile], Totals]:
    """Score the rollouts of ``index`` with ``parameters``, sort them and write the ranked files.

    A task reads one file of ``index`` at a time.

    Args:
        engine: Runs the tasks.
        index: The version to rank.
        parameters: New parameters.
        url: URL of the index to write.
        folder: Folder of the ranked files, relative to ``url``.

    Returns:
        The files written, in order, and the counts of usable rollouts.
    """
    files = engine.spread(list(enumerate(index.files)))
    found, summaries = files.map(partial(_run, index, parameters)).keep("scan", _sample_and_totals)
    totals = add_up(part for _, part in summaries)
    samples = [sample for sample, _ in summaries]
    ranked = write_ranked(engine, found.map(_only_run), samples, parameters, totals, url, folder)
    return ranked, totals


def _run(index: Index, parameters: Parameters, numbered: tuple[int, DataFile]) -> tuple[Run, Sample, Totals]:
    number, file = numbered
    rows = with_keys(read_scored(index, file, parameters), parameters)
    return *sorted_run((number,), rows, ranking_order(parameters)), count_usable(rows)


def _only_run(found: tuple[Run, Sample, Totals]) -> Run:
    return found[0]


def _sample_and_totals(found: tuple[Run, Sample, Totals]) -> tuple[Sample, Totals]:
    return found[1:]
