"""Sort Arrow tables by several columns, and store sorted runs as bytes (Arrow IPC streams)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from bisieve import schemas

Order = tuple[tuple[str, Literal["ascending", "descending"]], ...]  # columns, the most significant first


SAMPLE_EVERY = 512  # rows of a run for each sampled key
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

    A binary search per column inside the rows that equal the key in the columns before: far less work than a
    sort.
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


def constant_column(text: str, times: int) -> pa.DictionaryArray:
    """Return a dictionary-encoded column of ``times`` rows that all hold ``text``."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([text]))


def codes_and_texts(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Return a code for each row of a text column, int32 [rows], and the list of texts that codes index.

    The column is plain or dictionary-encoded and has no nulls.  Some texts may be in no row.
    """
    coded = column.combine_chunks().dictionary_encode()  # one dictionary, also where chunks have several
    return coded.indices.to_numpy(), coded.dictionary.to_pylist()


def trimmed(table: pa.Table) -> pa.Table:
    """Return ``table`` with its dictionaries reduced to texts in use, where one is longer than its column.

    A slice of a table keeps the whole dictionaries, so each of many slices would be stored with all texts.
    """
    columns = [pa.chunked_array(map(_trimmed, column.chunks), column.type) for column in table.columns]
    return pa.table(columns, schema=table.schema)


def _trimmed(values: Any) -> Any:
    if kinds.is_dictionary(values.type):
        long = len(values.dictionary) > len(values)
        return values.dictionary_decode().dictionary_encode() if long else values
    if values.type != pa.list_(schemas.SPAN):
        return values
    offsets = values.offsets
    spans = values.values.slice(offsets[0].as_py(), offsets[-1].as_py() - offsets[0].as_py())
    parts = [_trimmed(part) for part in spans.flatten()]
    ends = pa.array(offsets.to_numpy() - offsets[0].as_py())
    return pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(parts, fields=list(schemas.SPAN)))
