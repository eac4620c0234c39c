"""Cuts the sorted whole into files of an exact number of rows, before anybody has seen the whole.

Bounds, chosen from samples, split the keys into intervals; the runs are counted by interval; then each
interval's first row number is known.  A file gets every interval that it overlaps, from every run, and
keeps its own rows: so what is in a file depends on the rows alone, never on runs, samples or bounds.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisieve.ranking.sort import Order, Run, Sample, from_bytes, places_before, sorted_indices, to_bytes

INTERVALS_A_FILE = 8  # two of them are read twice

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bounds:
    """Keys in order; interval i holds the rows from bound i − 1 on, and before bound i."""

    order: Order
    keys: bytes  # an Arrow table

    def places(self, run: Run) -> Places:
        """Where the intervals begin and end in ``run``: ``[intervals + 1]``, from 0 to its length."""
        bounds = from_bytes(self.keys)
        rows = from_bytes(run.rows, bounds.column_names)
        # A bound comes before the row that it was taken from.
        return np.concatenate([[0], places_before(bounds, rows, self.order), [rows.num_rows]])

    def counts(self, run: Run) -> Places:
        """The rows of ``run`` in each interval."""
        return np.diff(self.places(run))


def choose_bounds(samples: Sequence[Sample], order: Order, intervals: int) -> Bounds:
    """Bounds of about ``intervals`` intervals of about equal size."""
    keys = pa.concat_tables([from_bytes(sample.keys) for sample in samples])
    weights = np.concatenate([sample.weights for sample in samples])
    places = sorted_indices(keys, order)
    # From the middle of what each stands for: with many runs, errors of one sign would add up.
    before = np.cumsum(weights[places]) - weights[places] / 2
    wanted = np.arange(1, intervals) * weights.sum() / intervals
    chosen = np.unique(np.searchsorted(before, wanted))
    return Bounds(order, to_bytes(keys.take(places[chosen[chosen < len(places)]])))


@dataclass(frozen=True)
class Cuts:
    """Which intervals each file needs, and which of their rows are its own."""

    bounds: Bounds
    counts: Places  # rows in each interval, over all runs
    rows_per_file: int

    @property
    def num_rows(self) -> int:
        """All rows."""
        return int(self.counts.sum())

    @property
    def num_files(self) -> int:
        """Files of `rows_per_file` rows; the last one may have fewer."""
        return -(-self.num_rows // self.rows_per_file)

    def _needed(self) -> tuple[Places, Places, Places]:
        """For each file the first interval, the one behind the last, and the first interval's first row."""
        ends = np.cumsum(self.counts)
        starts = ends - self.counts
        first_rows = np.arange(self.num_files) * self.rows_per_file
        first = np.searchsorted(ends, first_rows, side="right")
        behind = np.searchsorted(starts, first_rows + self.rows_per_file, side="left")
        return first, behind, starts[first]

    def pieces(self, run: Run) -> Iterator[tuple[int, Run]]:
        """For each file that needs rows of ``run``: its number, and those rows."""
        places, table = self.bounds.places(run), run.table
        first, behind, _ = self._needed()
        for file in np.flatnonzero(places[behind] > places[first]).tolist():
            start, end = places[first[file]], places[behind[file]]
            yield file, Run(run.number, to_bytes(table.slice(start, end - start)))

    def merged(self, file: int, pieces: Iterable[Run]) -> tuple[int, pa.Table]:
        """The number of the first row of ``file``, and its rows in order."""
        in_order = sorted(pieces, key=lambda piece: piece.number)
        table = pa.concat_tables([piece.table for piece in in_order]).combine_chunks()
        first_row = file * self.rows_per_file
        skipped = first_row - int(self._needed()[2][file])
        mine = sorted_indices(table, self.bounds.order)[skipped : skipped + self.rows_per_file]
        return first_row, table.take(mine)
