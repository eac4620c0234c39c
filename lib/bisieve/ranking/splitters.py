"""Cut sorted data into files of an exact number of rows, without sorting all of it in one place.

`choose_bounds` takes keys from samples as bounds, which divide all keys into intervals.  Counting each run's
rows by interval gives the number of each interval's first row in the sorted whole.  A file gets the intervals
that it overlaps, from all runs, sorts them and keeps its own rows.  So the contents of a file depend on the
rows alone, not on runs, samples or bounds.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisieve.ranking.sort import Order, Run, Sample, from_bytes, places_before, sorted_indices, to_bytes

INTERVALS_A_FILE = 8  # the first and the last of them may be shared with a neighbour, and are then read twice

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bounds:
    """Sorted keys that divide all rows: interval i holds rows >= bound i - 1 and < bound i."""

    order: Order
    keys: bytes  # an Arrow stream of the columns to sort by

    def places(self, run: Run) -> Places:
        """Return the row numbers at which the intervals of ``run`` begin, and its length, [intervals + 1]."""
        bounds = from_bytes(self.keys)
        rows = from_bytes(run.rows, bounds.column_names)
        # The row that a bound was taken from is in the interval after the bound.
        return np.concatenate([[0], places_before(bounds, rows, self.order), [rows.num_rows]])

    def counts(self, run: Run) -> Places:
        """Return how many rows of ``run`` are in each interval, [intervals]."""
        return np.diff(self.places(run))


def choose_bounds(samples: Sequence[Sample], order: Order, intervals: int) -> Bounds:
    """Return bounds of at most ``intervals`` intervals with about equally many rows."""
    keys = pa.concat_tables([from_bytes(sample.keys) for sample in samples])
    weights = np.concatenate([sample.weights for sample in samples])
    places = sorted_indices(keys, order)
    # A key is the middle of its group: with the group's start or end the errors of many runs would add up.
    before = np.cumsum(weights[places]) - weights[places] / 2
    wanted = np.arange(1, intervals) * weights.sum() / intervals
    chosen = np.unique(np.searchsorted(before, wanted))
    return Bounds(order, to_bytes(keys.take(places[chosen[chosen < len(places)]])))


@dataclass(frozen=True)
class Cuts:
    """How the sorted whole is cut: the intervals each file needs, and which of their rows belong to it."""

    bounds: Bounds
    counts: Places  # rows in each interval, over all runs
    rows_per_file: int

    @property
    def num_rows(self) -> int:
        """Return the number of all rows."""
        return int(self.counts.sum())

    @property
    def num_files(self) -> int:
        """Return the number of files of `rows_per_file` rows; the last one may have fewer."""
        return -(-self.num_rows // self.rows_per_file)

    def _needed(self) -> tuple[Places, Places, Places]:
        """Return the intervals each file overlaps.

        Returns:
            Three arrays [files]: the first interval, the one after the last, and the number of the first
            interval's first row in the sorted whole.
        """
        ends = np.cumsum(self.counts)
        starts = ends - self.counts
        first_rows = np.arange(self.num_files) * self.rows_per_file
        first = np.searchsorted(ends, first_rows, side="right")
        behind = np.searchsorted(starts, first_rows + self.rows_per_file, side="left")
        return first, behind, starts[first]

    def pieces(self, run: Run) -> Iterator[tuple[int, Run]]:
        """Yield, for each file that overlaps ``run``, the file's number and a run of the rows it needs."""
        places, table = self.bounds.places(run), run.table
        first, behind, _ = self._needed()
        for file in np.flatnonzero(places[behind] > places[first]).tolist():
            start, end = places[first[file]], places[behind[file]]
            yield file, Run(run.number, to_bytes(table.slice(start, end - start)))

    def merged(self, file: int, pieces: Iterable[Run]) -> tuple[int, pa.Table]:
        """Merge the pieces of ``file`` and return the number of its first row, and its rows in order."""
        in_order = sorted(pieces, key=lambda piece: piece.number)
        table = pa.concat_tables([piece.table for piece in in_order]).combine_chunks()
        first_row = file * self.rows_per_file
        skipped = first_row - int(self._needed()[2][file])
        mine = sorted_indices(table, self.bounds.order)[skipped : skipped + self.rows_per_file]
        return first_row, table.take(mine)
