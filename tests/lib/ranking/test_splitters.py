"""Files cut out of sorted runs are those that a sort of everything gives."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from bisieve.ranking.sort import Order, places_before, sorted_indices, sorted_run
from bisieve.ranking.splitters import Cuts, choose_bounds

ORDER: Order = (("source", "ascending"), ("key", "descending"), ("offset", "ascending"))
SCHEMA = pa.schema([("source", pa.string()), ("key", pa.float64()), ("offset", pa.int64())])
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "ä", "\U0001f600", "\uffff"]),
        st.sampled_from([0.0, 0.05, 0.1, 1.0]),
        st.integers(0, 10**6),
    ),
    unique=True, min_size=1, max_size=60,
)  # fmt: skip


def table(rows: list[tuple[str, float, int]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)


@given(ROWS, st.integers(1, 5), st.integers(1, 25), st.integers(1, 12))
def test_the_files_are_those_of_one_sort(
    rows: list[tuple[str, float, int]], num_runs: int, rows_per_file: int, intervals: int
) -> None:
    made = [sorted_run((n,), table(rows[n::num_runs]), ORDER) for n in range(num_runs)]
    runs = [run for run, _ in made]
    bounds = choose_bounds([sample for _, sample in made], ORDER, intervals)
    cuts = Cuts(bounds, np.sum([bounds.counts(run) for run in runs], axis=0), rows_per_file)
    pieces = [piece for run in runs for piece in cuts.pieces(run)]
    found = []
    for number in range(cuts.num_files):
        first, part = cuts.merged(number, [piece for file, piece in pieces if file == number])
        assert first == number * rows_per_file
        assert part.num_rows == min(rows_per_file, len(rows) - first)
        found += part.to_pylist()
    expected = sorted(rows, key=lambda row: (row[0], -row[1], row[2]))
    assert found == table(expected).to_pylist()


@given(ROWS, ROWS)
def test_a_place_is_the_number_of_rows_that_come_before(
    rows: list[tuple[str, float, int]], keys: list[tuple[str, float, int]]
) -> None:
    def order(row: tuple[str, float, int]) -> tuple[str, float, int]:
        return row[0], -row[1], row[2]

    in_order = table(rows).take(sorted_indices(table(rows), ORDER))
    places = places_before(table(keys), in_order, ORDER)
    assert places.tolist() == [sum(order(row) < order(key) for row in rows) for key in keys]
