"""Rank an existing index with other parameters, on an engine, without reading its shards.

`rank_index` publishes the result as an index, `select_on` returns only the best rollouts and writes nothing.
"""

from collections.abc import Mapping
from functools import partial
from operator import itemgetter
from typing import Any

import pyarrow as pa

from bisieve.events import EventSink, null_sink
from bisieve.index.exclusion import NOTHING, Exclusion
from bisieve.index.manifest import DataFile
from bisieve.index.reader import Index
from bisieve.index.rerank import count_usable, publish_ranked, read_scored
from bisieve.index.selection import Selection, is_as_ranked, select
from bisieve.index.writer import RankedFile
from bisieve.pipeline.engine import BYTES_A_ROLLOUT, Engine, OpenEngine, Parts, Shared, reporter
from bisieve.pipeline.ranked_files import Sources, ranked_parts, write_ranked
from bisieve.ranking.order import Best, TieBlock, best_of, joined, ranking_order, with_keys
from bisieve.ranking.sort import Run, Sample, codes_and_texts, from_bytes, sorted_run, to_bytes
from bisieve.records.options import Parameters
from bisieve.scan.chunks import Totals, add_up

IN_MEMORY = 4_000_000  # rollouts up to which a selection is ranked in memory: 1 kB each at the peak


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
    found, samples, totals = _scored(engine, index, parameters)
    return write_ranked(engine, found, samples, parameters, totals, url, folder), totals


def _scored(
    engine: Engine, index: Index, parameters: Parameters, exclusion: Exclusion = NOTHING
) -> tuple[Parts[Run], list[Sample], Totals]:
    """Score the rollouts of ``index``; return sorted runs, their samples and the counts."""
    files, shared = engine.spread(list(enumerate(index.files))), engine.share(exclusion)
    found, summaries = files.map(partial(_run, index, parameters, shared)).keep("scan", _sample_and_totals)
    totals = add_up(part for _, part in summaries)
    return found.map(_only_run), [sample for sample, _ in summaries], totals


def _run(
    index: Index, parameters: Parameters, exclusion: Shared[Exclusion], numbered: tuple[int, DataFile]
) -> tuple[Run, Sample, Totals]:
    number, file = numbered
    rows = with_keys(exclusion.value.without(read_scored(index, file, parameters)), parameters)
    return *sorted_run((number,), rows, ranking_order(parameters)), count_usable(rows)


def _only_run(found: tuple[Run, Sample, Totals]) -> Run:
    return found[0]


def _sample_and_totals(found: tuple[Run, Sample, Totals]) -> tuple[Sample, Totals]:
    return found[1:]


def select_on(
    open_engine: OpenEngine,
    index: Index,
    fraction: float,
    asked: Mapping[str, Any],
    emit: EventSink = null_sink,
    exclusion: Exclusion = NOTHING,
) -> Selection:
    """Select as `selection.select` does, and above `IN_MEMORY` rollouts on an engine.

    The driver gets the selected rollouts only, and they are the same either way.

    Args:
        open_engine: Called with the estimated bytes to process, and only if an engine is needed.
        index: The version to select from.
        fraction: Share of rollouts to select, in (0, 1].
        asked: Options by which to select, as of `selection.select`.
        emit: Gets the progress of the engine.
        exclusion: Rollouts to leave out.

    Raises:
        UsageError: A value is out of range, no α is automatic, or all rollouts are left out.
        IndexUnusableError: A file of ``index`` is missing or damaged.
    """
    if index.manifest.rollouts <= IN_MEMORY or (is_as_ranked(index, asked) and not exclusion.ids):
        return select(index, fraction, asked, None, exclusion)
    with open_engine(BYTES_A_ROLLOUT * index.manifest.rollouts) as engine, engine.watched(reporter(emit)):
        rank = partial(best_on, engine, index, exclusion=exclusion)
        return select(index, fraction, asked, rank, exclusion)


def best_on(
    engine: Engine, index: Index, parameters: Parameters, fraction: float, exclusion: Exclusion = NOTHING
) -> Best:
    """Score the rollouts of ``index`` with ``parameters``, rank them, and return the best ``fraction``.

    Args:
        engine: Runs the tasks.
        index: The version to rank.
        parameters: New parameters.
        fraction: Share of rollouts to select, in (0, 1].
        exclusion: Rollouts to leave out.
    """
    found, samples, totals = _scored(engine, index, parameters, exclusion)
    sources = engine.share(Sources.of(totals, parameters))
    use = partial(_best_of_part, sources, fraction)
    parts = ranked_parts(engine, found, samples, parameters, sources, use, "select").collect("select")
    return joined(
        [Best(from_bytes(rows), left_out) for _, rows, left_out in sorted(parts, key=itemgetter(0))]
    )


def _best_of_part(
    shared: Shared[Sources], fraction: float, number: int, rows: pa.Table
) -> tuple[int, bytes, list[TieBlock]]:
    best = best_of(rows, shared.value.limits(fraction, codes_and_texts(rows["source"])[1]))
    return number, to_bytes(best.rows), best.left_out
