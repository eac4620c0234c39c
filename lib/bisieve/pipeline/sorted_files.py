"""Sort on an engine: from sorted runs to files of an exact number of rows (an external merge sort).

1.  samples ──choose_bounds──▶ bounds on the driver;  runs ──_count──▶ rows in each interval ──▶ `Cuts`
2.  runs ──_pieces──▶ shuffle by file ──_merge──▶ one task a file
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from bisieve.pipeline.engine import Engine, Parts, Shared
from bisieve.ranking.sort import INTERVALS_A_FILE, Bounds, Cuts, Order, Places, Run, Sample, choose_bounds

Result = TypeVar("Result")
Use = Callable[[int, int, pa.Table], Result]  # gets a file's number, the number of its first row, its rows


def sorted_files(
    engine: Engine,
    runs: Parts[Run],
    samples: Sequence[Sample],
    order: Order,
    rows_per_file: int,
    use: "Use[Result]",
    stage: str,
) -> "Parts[Result]":
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
    if num_rows <= rows_per_file:
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


def _merge(
    cuts: Shared[Cuts], use: "Use[Any]", file: int, pieces: Iterable[tuple[int, Run]]
) -> Iterator[Any]:
    yield use(file, *cuts.value.merged(file, (piece for _, piece in pieces)))
