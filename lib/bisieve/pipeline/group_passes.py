"""Group passes on an engine: steps of a ranking that need all rollouts of a group.

runs ──_by_group──▶ sort by group ──_count──▶ totals inside a piece, and its `Ends`
pieces + `completions` on the driver ──_finish──▶ rows with a new key, as runs in ranking order
"""

from collections.abc import Sequence
from functools import partial
from operator import itemgetter

import pyarrow as pa

from bisieve.pipeline.engine import Engine, Parts
from bisieve.pipeline.sorted_files import sorted_files
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
from bisieve.ranking.sort import Run, Sample, sorted_run, to_bytes
from bisieve.records.options import Parameters


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
        partial(_count, step, parameters), "group",
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


def _count(
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
