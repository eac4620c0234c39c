"""The Parquet files of an index version: bytes that depend on nothing but the rows."""

import hashlib
import io

import pyarrow as pa
import pyarrow.parquet as pq

from bisieve.manifest import DataFile
from bisieve.storage import join, write_bytes

ROWS_PER_FILE = 2**17
ROWS_PER_GROUP = 2**14


def part_path(folder: str, number: int) -> str:
    """Where file ``number`` of a folder lies, relative to the index."""
    return f"{folder}/part-{number:06d}.parquet"


def write_part(
    index_url: str, path: str, table: pa.Table, schema: pa.Schema, rows_per_group: int = ROWS_PER_GROUP
) -> DataFile:
    """Writes the columns of ``schema`` as one file, whole or not at all; `StorageError` where it cannot."""
    buffer = io.BytesIO()
    rows = table.select(schema.names).cast(schema).combine_chunks()
    pq.write_table(rows, buffer, compression="zstd", row_group_size=rows_per_group)
    data = buffer.getvalue()
    write_bytes(join(index_url, path), data)
    return DataFile(path, table.num_rows, len(data), hashlib.sha256(data).hexdigest())
