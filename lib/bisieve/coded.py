"""Columns of coded text (`schema.CODED`): codes beside a dictionary of the texts, each of them once."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as kinds

from bisieve import schema


def repeated(text: str, times: int) -> pa.DictionaryArray:
    """``text`` again and again."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([text]))


def codes_and_texts(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], list[str]]:
    """A code for each row of ``column``, coded or plain and without nulls, and the texts that they stand for.

    Not every text need be in a row.
    """
    coded = column.combine_chunks().dictionary_encode()  # one dictionary, whatever the chunks have
    return coded.indices.to_numpy(), coded.dictionary.to_pylist()


def trimmed(table: pa.Table) -> pa.Table:
    """``table`` without the texts that no row has, where a dictionary is longer than its column.

    A slice keeps its whole table's dictionaries, which many slices would carry again and again.
    """
    columns = [pa.chunked_array(map(_trimmed, column.chunks), column.type) for column in table.columns]
    return pa.table(columns, schema=table.schema)


def _trimmed(values: Any) -> Any:
    if kinds.is_dictionary(values.type):
        long = len(values.dictionary) > len(values)
        return values.dictionary_decode().dictionary_encode() if long else values
    if values.type != pa.list_(schema.SPAN):
        return values
    offsets = values.offsets
    spans = values.values.slice(offsets[0].as_py(), offsets[-1].as_py() - offsets[0].as_py())
    parts = [_trimmed(part) for part in spans.flatten()]
    ends = pa.array(offsets.to_numpy() - offsets[0].as_py())
    return pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(parts, fields=list(schema.SPAN)))
