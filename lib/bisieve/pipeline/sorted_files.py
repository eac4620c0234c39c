"""Run the external merge sort on an engine, which carries sorted runs as bytes.

runs ──count──▶ cuts on the driver;  runs ──pieces──▶ shuffle by file ──▶ one task a file
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from bisieve.pipeline.engine import Engine, Parts, Shared
from bisieve.ranking.sort import Order, Run, Sample
from bisieve.ranking.splitters import INTERVALS_A_FILE, Bounds, Cuts, Places, choose_bounds

Result = TypeVar("Result")
Use = Callable[[int, int, pa.Table], Result]  # of a file: its number, the number of its first row, its rows


def sorted_files(
    engine: Engine,
    runs: Parts[Run],
    samples: Sequence[Sample],
    order: Order,
    rows_per_file: int,
    use: "Use[Result]",
    stage: str,
) -> "Parts[Result]":
    """``use(file, first_row, rows)`` for each file of the sorted whole, in a task of its own.

    ``runs`` is read twice: keep it.  Rows are numbered from 0; every file has ``rows_per_file`` rows, the
    last one perhaps fewer; there must be a row.
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
