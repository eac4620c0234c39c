"""The tie rule ``ties=spread`` on an engine: number the rollouts of each question, best first.

Among equal scores, the first rollouts of all questions then come before second ones.

runs ──_by_question──▶ sort by question ──_count──▶ numbers inside a piece, and its `Ends`
pieces + `counted_before` on the driver ──_go_on──▶ final numbers, runs in ranking order
"""

from collections.abc import Sequence
from functools import partial
from operator import itemgetter

import pyarrow as pa

from bisieve.pipeline.engine import Engine, Parts
from bisieve.pipeline.sorted_files import sorted_files
from bisieve.ranking.sort import Run, Sample, sorted_run, to_bytes
from bisieve.ranking.strategies import (
    Ends,
    continued,
    counted_before,
    ends,
    question_order,
    ranking_order,
    with_occurrence,
)
from bisieve.records.options import Parameters


def with_occurrences(
    engine: Engine, runs: Parts[Run], parameters: Parameters, rows_per_piece: int
) -> tuple[Parts[Run], list[Sample]]:
    """Return the rollouts with ``tie`` = 1 for the best rollout of its question, 2 for the next, and so on.

    Rows are sorted by question and cut into pieces of equal size.  They are not shuffled by question, since a
    question with most of the rollouts would have to fit into one task.

    Args:
        engine: Runs the tasks.
        runs: Usable rollouts with the columns ``key`` and ``tie``; read once.
        parameters: The scope decides whether a question is counted inside its source or over all.
        rows_per_piece: Rows of a piece.

    Returns:
        The runs, sorted by `ranking_order` and kept, and their samples.
    """
    order = question_order(parameters)
    asked, samples = runs.map(partial(_by_question, parameters)).keep("spread", itemgetter(1))
    counted = sorted_files(
        engine,
        asked.map(itemgetter(0)),
        samples,
        order,
        rows_per_piece,
        partial(_count, parameters),
        "spread",
    )
    pieces, found = counted.keep("spread", _numbered_ends)
    before = counted_before([its_ends for _, its_ends in sorted(found)])
    go_on = partial(_go_on, parameters, before)
    ordered, order_samples = pieces.map(go_on).keep("spread", itemgetter(1))
    for used in (asked, pieces):
        used.drop()
    return ordered.map(itemgetter(0)), order_samples


def _by_question(parameters: Parameters, run: Run) -> tuple[Run, Sample]:
    return sorted_run(run.number, run.table, question_order(parameters))


def _count(parameters: Parameters, number: int, first_row: int, rows: pa.Table) -> tuple[Run, Ends]:
    counted = with_occurrence(rows, parameters)
    return Run((number,), to_bytes(counted)), ends(counted, parameters)


def _go_on(parameters: Parameters, before: Sequence[int], piece: tuple[Run, Ends]) -> tuple[Run, Sample]:
    run = piece[0]
    rows = continued(run.table, parameters, before[run.number[0]])
    return sorted_run(run.number, rows, ranking_order(parameters))


def _numbered_ends(piece: tuple[Run, Ends]) -> tuple[tuple[int, ...], Ends]:
    return piece[0].number, piece[1]
