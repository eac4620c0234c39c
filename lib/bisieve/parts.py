"""The Parquet files of an index version: bytes that depend on nothing but the rows."""

import hashlib
import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from bisieve.manifest import DataFile
from bisieve.storage import join, write_bytes

ROWS_PER_FILE = 2**17
ROWS_PER_GROUP = 2**14
_FEW_TEXTS = ("source", "shard", "layout", "reason")


def part_path(folder: str, number: int) -> str:
    """Where file ``number`` of a folder lies, relative to the index."""
    return f"{folder}/part-{number:06d}.parquet"


def write_part(
    index_url: str, path: str, table: pa.Table, schema: pa.Schema, rows_per_group: int = ROWS_PER_GROUP
) -> DataFile:
    """Writes the columns of ``schema`` as one file, whole or not at all; `StorageError` where it cannot."""
    buffer = io.BytesIO()
    rows = table.select(schema.names).cast(schema).combine_chunks()
    pq.write_table(
        rows,
        buffer,
        compression="zstd",
        row_group_size=rows_per_group,
        use_dictionary=list(_repeating(schema)),
    )
    data = buffer.getvalue()
    write_bytes(join(index_url, path), data)
    return DataFile(path, table.num_rows, len(data), hashlib.sha256(data).hexdigest())


def _repeating(schema: pa.Schema) -> Iterator[str]:
    """The Parquet columns whose values repeat: for any other a dictionary is begun and given up."""
    for field in schema:
        if field.name in _FEW_TEXTS:
            yield field.name
        elif pa.types.is_list(field.type):
            item = f"{field.name}.list.element"
            inner = field.type.value_type
            yield from [f"{item}.{name}" for name in _FEW_TEXTS] if pa.types.is_struct(inner) else [item]
