"""Sort on an engine: runs into files of an exact number of rows, and into the groups of a group pass.

files   1. samples ──choose_bounds──▶ bounds on the driver;  runs ──_count──▶ rows by interval ──▶ `Cuts`
        2. runs ──_pieces──▶ shuffle by file ──_merge──▶ one task a file
groups  1. runs ──_by_group──▶ sort by group ──_totals──▶ totals inside a piece, and its `Ends`
        2. pieces + `completions` on the driver ──_finish──▶ rows with a new key, as runs in ranking order
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from bisieve.pipeline.engine import Engine, Parts, Shared
from bisieve.ranking.grouped import (
    Completion,
    Ends,
    GroupPass,
    completed,
    completions,
    ends,
    finished,
    totals,
)
from bisieve.ranking.order import ranking_order, with_negatives_last
from bisieve.ranking.sort import (
    INTERVALS_A_FILE,
    Bounds,
    Cuts,
    Order,
    Places,
    Run,
    Sample,
    choose_bounds,
    sorted_run,
    to_bytes,
)
from bisieve.records.options import Parameters

Result = TypeVar("Result")
Use = Callable[[int, int, pa.Table], Result]  # gets a file's number, the number of its first row, its rows


def sorted_files(
    engine: Engine,
    runs: Parts[Run],
    samples: Sequence[Sample],
    order: Order,
    rows_per_file: int,
    use: Use[Result],
    stage: str,
) -> Parts[Result]:
    """Sort all rows of ``runs``, cut them into files and call ``use`` on each file in a task of its own.

    Files and rows are numbered from 0 in sorted order.

    Args:
        engine: Runs the tasks.
        runs: Runs sorted by ``order``, with at least one row in all.  They are read twice: pass what
            `Parts.keep` returned.
        samples: The sample of each run.
        order: Must be unique, so that the files do not depend on how rows are divided into runs.
        rows_per_file: Rows of each file; the last one may have fewer.
        use: Called in a task with (file number, number of its first row, its rows in order).
        stage: One of `STAGES`, for progress.

    Returns:
        A collection with one part a file, which holds what ``use`` returned.
    """
    num_rows = sum(sum(sample.weights) for sample in samples)
    num_files = -(-num_rows // rows_per_file)
    cuts = engine.share(_cuts(engine, runs, samples, order, num_rows, rows_per_file))
    pieces = runs.flat_map(partial(_pieces, cuts)).by_number(num_files, stage)
    return pieces.map_parts(partial(_merge, cuts, use))


def _cuts(
    engine: Engine,
    runs: Parts[Run],
    samples: Sequence[Sample],
    order: Order,
    num_rows: int,
    rows_per_file: int,
) -> Cuts:
    if num_rows <= rows_per_file:  # one file is one interval: nothing to count
        return Cuts(choose_bounds(samples[:1], order, 1), np.array([num_rows]), rows_per_file)
    bounds = choose_bounds(samples, order, INTERVALS_A_FILE * -(-num_rows // rows_per_file))
    counts = runs.map_parts(partial(_count, engine.share(bounds))).total("count")
    return Cuts(bounds, counts, rows_per_file)


def _count(bounds: Shared[Bounds], number: int, runs: Iterable[Run]) -> Iterator[Places]:
    counts = [bounds.value.counts(run) for run in runs]
    if counts:
        yield np.sum(counts, axis=0)


def _pieces(cuts: Shared[Cuts], run: Run) -> Iterator[tuple[int, Run]]:
    return cuts.value.pieces(run)


def _merge(cuts: Shared[Cuts], use: Use[Any], file: int, pieces: Iterable[tuple[int, Run]]) -> Iterator[Any]:
    yield use(file, *cuts.value.merged(file, (piece for _, piece in pieces)))


def grouped_runs(
    engine: Engine, runs: Parts[Run], step: GroupPass, parameters: Parameters, rows_per_piece: int
) -> tuple[Parts[Run], list[Sample]]:
    """Return the rollouts after a group pass.

    Rows are sorted by group and cut into pieces of equal size.  They are not shuffled by group, since a group
    with most of the rollouts would have to fit into one task.

    Args:
        engine: Runs the tasks.
        runs: Usable rollouts with the columns ``key`` and ``tie``; read once.
        step: The pass.
        parameters: Of the ranking.
        rows_per_piece: Rows of a piece.

    Returns:
        The runs, sorted by `ranking_order` and kept, and their samples.
    """
    prepared, samples = runs.map(partial(_by_group, step, parameters)).keep("group", itemgetter(1))
    counted = sorted_files(
        engine, prepared.map(itemgetter(0)), samples, step.order(parameters), rows_per_piece,
        partial(_totals, step, parameters), "group",
    )  # fmt: skip
    pieces, found = counted.keep("group", _numbered_ends)
    lacks = completions([its_ends for _, its_ends in sorted(found, key=itemgetter(0))])
    finish = partial(_finish, step, parameters, lacks)
    ordered, order_samples = pieces.map(finish).keep("group", itemgetter(1))
    for used in (prepared, pieces):
        used.drop()
    return ordered.map(itemgetter(0)), order_samples


def _by_group(step: GroupPass, parameters: Parameters, run: Run) -> tuple[Run, Sample]:
    return sorted_run(run.number, step.prepare(run.table, parameters), step.order(parameters))


def _totals(
    step: GroupPass, parameters: Parameters, number: int, first_row: int, rows: pa.Table
) -> tuple[Run, Ends]:
    counted = totals(rows, step, parameters)
    return Run((number,), to_bytes(counted)), ends(counted, step, parameters)


def _finish(
    step: GroupPass, parameters: Parameters, lacks: Sequence[Completion], piece: tuple[Run, Ends]
) -> tuple[Run, Sample]:
    run = piece[0]
    rows = completed(run.table, step, parameters, lacks[run.number[0]])
    rows = with_negatives_last(finished(rows, step, parameters), parameters)
    return sorted_run(run.number, rows, ranking_order(parameters))


def _numbered_ends(piece: tuple[Run, Ends]) -> tuple[tuple[int, ...], Ends]:
    return piece[0].number, piece[1]
