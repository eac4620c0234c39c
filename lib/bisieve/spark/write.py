"""Writes numbered rows as Parquet files whose bytes depend on nothing but the rows."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import astuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from bisieve.manifest import DataFile
from bisieve.storage import join, write_bytes

ROWS_PER_FILE = 2**17
ROWS_PER_GROUP = 2**14
_WRITTEN = "path string, rows long, bytes long, sha256 string"


def write_numbered(
    rows: DataFrame, number: str, schema: pa.Schema, index_url: str, folder: str, num_rows: int
) -> list[DataFile]:
    """Writes ``rows``, ordered by the column ``number`` (0 … ``num_rows`` − 1), into ``folder`` of the index.

    Files are cut by number alone, never by partition: retries and other cluster sizes write the same bytes
    under the same names.
    """
    num_files = max(1, -(-num_rows // ROWS_PER_FILE))

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        file = _write_file(batches, number, schema, index_url, folder)
        if file is not None:
            yield pa.RecordBatch.from_pylist([dict(zip(_FIELDS, astuple(file), strict=True))])

    file_number = F.floor(F.col(number) / ROWS_PER_FILE).cast("int")
    written = (
        rows.select(number, *schema.names)
        .repartitionById(num_files, file_number)
        .sortWithinPartitions(number)
        .mapInArrow(write, _WRITTEN)
        .collect()
    )
    return sorted((DataFile(**row.asDict()) for row in written), key=lambda file: file.path)


_FIELDS = ("path", "rows", "bytes", "sha256")


def _write_file(
    batches: Iterator[pa.RecordBatch], number: str, schema: pa.Schema, index_url: str, folder: str
) -> DataFile | None:
    buffer = io.BytesIO()
    name = None
    num_rows = 0
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for group in _groups(batches):
            if name is None:
                name = f"{folder}/part-{group[number][0].as_py() // ROWS_PER_FILE:06d}.parquet"
            num_rows += group.num_rows
            writer.write_table(group.select(schema.names).cast(schema), row_group_size=ROWS_PER_GROUP)
    if name is None:
        return None
    data = buffer.getvalue()
    write_bytes(join(index_url, name), data)
    return DataFile(name, num_rows, len(data), hashlib.sha256(data).hexdigest())


def _groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows in tables of exactly `ROWS_PER_GROUP`, so that row groups do not follow batch sizes."""
    held: list[pa.RecordBatch] = []
    num_held = 0
    for batch in batches:
        held.append(batch)
        num_held += batch.num_rows
        if num_held >= ROWS_PER_GROUP:
            table = pa.Table.from_batches(held).combine_chunks()
            whole = num_held - num_held % ROWS_PER_GROUP
            for start in range(0, whole, ROWS_PER_GROUP):
                yield table.slice(start, ROWS_PER_GROUP).combine_chunks()
            held, num_held = table.slice(whole).to_batches(), num_held - whole
    if num_held:
        yield pa.Table.from_batches(held).combine_chunks()
