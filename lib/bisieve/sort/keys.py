"""The order of rows by several columns."""

from itertools import chain
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Order = tuple[tuple[str, Literal["ascending", "descending"]], ...]  # columns, the first one weighs most


def sorted_indices(table: pa.Table, order: Order) -> npt.NDArray[np.int64]:
    """The stable order of the rows of ``table``: strings by code point, numbers by value; no nulls."""
    columns = [_key(table[name].combine_chunks(), way) for name, way in reversed(order)]
    keys = list(chain.from_iterable(map(_digits, columns)))
    varying = [key for key in keys if len(key) and (key != key[0]).any()]
    return np.lexsort(varying) if varying else np.arange(table.num_rows)


def _digits(key: npt.NDArray[np.generic]) -> list[npt.NDArray[np.generic]]:
    """``key`` as keys of 16 bits, the last one first: numpy sorts these by radix, ten times as fast."""
    if not len(key) or not np.issubdtype(key.dtype, np.integer):
        return [key]
    least = key.min()
    if (width := int(key.max()) - int(least)) >= 2**32:
        return [key]
    above = (key - least).astype(np.uint32)
    return [above.astype(np.uint16), *([(above >> 16).astype(np.uint16)] if width >= 2**16 else [])]


def places_before(keys: pa.Table, rows: pa.Table, order: Order) -> npt.NDArray[np.int64]:
    """For each of ``keys`` how many of ``rows``, which are in order, come before it; ``[keys]``.

    Column by column, the rows that equal a key so far are narrowed down: far less work than a sort.
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
