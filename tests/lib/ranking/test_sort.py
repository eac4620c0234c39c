"""Files cut out of sorted runs are those of one sort, and carry no text that none of their rows has."""

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from bisieve import schemas
from bisieve.ranking.sort import (
    Cuts,
    Order,
    choose_bounds,
    codes_and_texts,
    constant_column,
    from_bytes,
    places_before,
    sorted_indices,
    sorted_run,
    to_bytes,
    trimmed,
)


def table_of_spans(shards: list[str], spans: list[list[str]]) -> pa.Table:
    rows = [[{"shard": shard, "offset": 1, "length": 2} for shard in of] for of in spans]
    kinds = [schemas.CODED, pa.list_(schemas.SPAN)]
    return pa.table([pa.array(shards, kinds[0]), pa.array(rows, kinds[1])], names=["shard", "spans"])


def dictionaries(rows: pa.Table) -> list[Any]:
    spans = rows["spans"].chunk(0).flatten()
    return [rows["shard"].chunk(0).dictionary.to_pylist(), spans.field("shard").dictionary.to_pylist()]


def test_codes_stand_for_texts_whatever_dictionaries_the_chunks_have() -> None:
    column = pa.chunked_array([constant_column("b", 2), constant_column("a", 1), constant_column("b", 1)])
    codes, texts = codes_and_texts(column)
    assert [texts[code] for code in codes] == ["b", "b", "a", "b"]
    assert sorted(texts) == ["a", "b"]


def test_a_slice_keeps_only_the_texts_that_its_rows_have() -> None:
    names = [f"shard {number}" for number in range(9)]
    whole = table_of_spans(names, [[names[place], names[place - 1]] for place in range(9)])
    part = trimmed(whole.slice(3, 2))
    assert part.to_pylist() == whole.slice(3, 2).to_pylist()
    assert dictionaries(part) == [names[3:5], [names[3], names[2], names[4]]]
    assert from_bytes(to_bytes(whole.slice(3, 2))).to_pylist() == part.to_pylist()


def test_a_dictionary_that_is_no_longer_than_its_column_stays() -> None:
    whole = table_of_spans(["a", "b", "a"], [["a"], ["b"], ["b"]])
    assert trimmed(whole.slice(0, 2)).equals(whole.slice(0, 2))
    assert dictionaries(trimmed(whole.slice(0, 2))) == [["a", "b"], ["a", "b"]]


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
