"""Sort Arrow tables of any size by several columns, and cut the result into files: an external merge sort.

Each task sorts its rows into a run and samples the keys (`sorted_run`). `choose_bounds` takes keys from the
samples as bounds, which divide all keys into intervals. Counting each run's rows by interval gives the number
of each interval's first row in the sorted whole. A file gets the intervals that it overlaps, from all runs,
sorts them and keeps its own rows (`Cuts`). So the contents of a file depend on the rows alone, not on runs,
samples or bounds.

Tables go from task to task as bytes, Arrow IPC streams (`to_bytes`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisieve import schemas

Order = tuple[tuple[str, Literal["ascending", "descending"]], ...]  # columns, the most significant first
Places = npt.NDArray[np.int64]

SAMPLE_EVERY = 512  # rows of a run for each sampled key
INTERVALS_A_FILE = 8  # the first and the last of them may be shared with a neighbour, and are then read twice
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


def sorted_indices(table: pa.Table, order: Order) -> npt.NDArray[np.int64]:
    """Return the row numbers of ``table`` in sorted order, int64 [rows]; the sort is stable.

    Strings are compared by code point, numbers by value.  Columns must have no nulls.
    """
    columns = [_key(table[name].combine_chunks(), way) for name, way in reversed(order)]
    keys = list(chain.from_iterable(map(_digits, columns)))
    varying = [key for key in keys if len(key) and (key != key[0]).any()]
    return np.lexsort(varying) if varying else np.arange(table.num_rows)


def _digits(key: npt.NDArray[np.generic]) -> list[npt.NDArray[np.generic]]:
    """Split an integer key into keys of 16 bits, the least significant first; other keys stay as they are.

    numpy sorts 16-bit keys by radix, ten times as fast.
    """
    if not len(key) or not np.issubdtype(key.dtype, np.integer):
        return [key]
    least = key.min()
    if (width := int(key.max()) - int(least)) >= 2**32:
        return [key]
    above = (key - least).astype(np.uint32)
    return [above.astype(np.uint16), *([(above >> 16).astype(np.uint16)] if width >= 2**16 else [])]


def places_before(keys: pa.Table, rows: pa.Table, order: Order) -> npt.NDArray[np.int64]:
    """Return how many of the sorted ``rows`` come before each of ``keys``, int64 [keys].

    For each key, a binary search in one column after the other narrows down the rows that are equal so far.
    That is far less work than a sort.
    """
    first = np.zeros(keys.num_rows, np.int64)
    behind = np.full(keys.num_rows, rows.num_rows, np.int64)
    for name, way in order:
        both = pa.chunked_array([*keys[name].chunks, *rows[name].chunks], keys[name].type)
        key, column = np.split(_key(both.combine_chunks(), way), [keys.num_rows])
        for place in np.flatnonzero(first < behind).tolist():
            equal = column[first[place] : behind[place]]
            behind[place] = first[place] + np.searchsorted(equal, key[place], side="right")
            first[place] += np.searchsorted(equal, key[place])
    return first


def _key(column: pa.Array, way: str) -> npt.NDArray[np.generic]:
    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        coded = column.dictionary_encode()
        places = np.empty(len(coded.dictionary), np.int64)
        places[pc.sort_indices(coded.dictionary).to_numpy()] = np.arange(len(places))
        values: npt.NDArray[np.generic] = places[coded.indices.to_numpy()]
    else:
        values = column.to_numpy(zero_copy_only=False)
    return np.negative(values) if way == "descending" else values


@dataclass(frozen=True)
class Run:
    """A sorted part of the rows to sort.

    Rows with equal keys from several runs are ordered by ``number``, which is unique.
    """

    number: tuple[int, ...]
    rows: bytes  # an Arrow stream, see `to_bytes`

    @property
    def table(self) -> pa.Table:
        """Return the rows, decoded."""
        return from_bytes(self.rows)


@dataclass(frozen=True)
class Sample:
    """Sampled sort keys of a run: for every group of `SAMPLE_EVERY` rows the key of its middle row."""

    keys: bytes  # an Arrow stream of the columns to sort by
    weights: tuple[int, ...]  # for each key the number of rows in its group


def sorted_run(number: tuple[int, ...], table: pa.Table, order: Order) -> tuple[Run, Sample]:
    """Sort ``table`` and return it as a run, with a sample of its keys."""
    table = table.take(sorted_indices(table, order))
    starts = np.arange(0, table.num_rows, SAMPLE_EVERY)
    weights = np.diff([*starts, table.num_rows])
    keys = table.select([name for name, _ in order]).take(starts + weights // 2)
    return Run(number, to_bytes(table)), Sample(to_bytes(keys), tuple(weights.tolist()))


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


# ---- Arrow tables ------------------------------------------------------------------------------------------


def to_bytes(table: pa.Table) -> bytes:
    """Return ``table`` as an Arrow IPC stream; compressed (lz4), since an engine copies it several times."""
    table = trimmed(table)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_COMPRESSED) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def from_bytes(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the table in an Arrow IPC stream, or only its ``columns``; others are not decompressed."""
    stream = pa.ipc.open_stream(pa.py_buffer(data))
    if columns is None:
        return stream.read_all()
    wanted = [stream.schema.get_field_index(name) for name in columns]
    options = pa.ipc.IpcReadOptions(included_fields=wanted)
    return pa.ipc.open_stream(pa.py_buffer(data), options=options).read_all()


def trimmed(table: pa.Table) -> pa.Table:
    """Return ``table`` with its dictionaries reduced to texts in use, where one is longer than its column.

    A slice of a table keeps the whole dictionaries, so each of many slices would be stored with all texts.
    """
    columns = [pa.chunked_array(map(_trimmed, column.chunks), column.type) for column in table.columns]
    return pa.table(columns, schema=table.schema)


def _trimmed(values: Any) -> Any:
    if pa.types.is_dictionary(values.type):
        long = len(values.dictionary) > len(values)
        return values.dictionary_decode().dictionary_encode() if long else values
    if values.type != pa.list_(schemas.SPAN):
        return values
    offsets = values.offsets
    spans = values.values.slice(offsets[0].as_py(), offsets[-1].as_py() - offsets[0].as_py())
    parts = [_trimmed(part) for part in spans.flatten()]
    ends = pa.array(offsets.to_numpy() - offsets[0].as_py())
    return pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(parts, fields=list(schemas.SPAN)))


def constant_column(text: str, times: int) -> pa.DictionaryArray:
    """Return a dictionary-encoded column of ``times`` rows that all hold ``text``."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([text]))


def codes_and_texts(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Return a code for each row of a text column, int32 [rows], and the list of texts that codes index.

    The column is plain or dictionary-encoded and has no nulls.  Some texts may be in no row.
    """
    coded = column.combine_chunks().dictionary_encode()  # one dictionary, also where chunks have several
    return coded.indices.to_numpy(), coded.dictionary.to_pylist()


def begins(table: pa.Table, columns: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return a mask of rows that differ from the row before in one of ``columns``; true for the first row."""
    mask = np.zeros(table.num_rows, np.bool_)
    mask[:1] = True
    for name in columns:
        column = table[name].combine_chunks()
        if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
            column = column.dictionary_encode().indices
        mask[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return mask
