"""Writes numbered rows as Parquet files whose bytes depend on nothing but the rows."""

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain

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

    rows_per_file, rows_per_group = ROWS_PER_FILE, ROWS_PER_GROUP  # the driver's, in every worker

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        groups = _groups(batches, rows_per_group)
        if (first := next(groups, None)) is not None:
            name = f"{folder}/part-{first[number][0].as_py() // rows_per_file:06d}.parquet"
            file = _write_file(chain([first], groups), schema, index_url, name)
            yield pa.RecordBatch.from_pylist([asdict(file)])

    file_number = F.floor(F.col(number) / rows_per_file).cast("int")
    written = (
        rows.select(number, *schema.names)
        .repartitionById(num_files, file_number)
        .sortWithinPartitions(number)
        .mapInArrow(write, _WRITTEN)
        .collect()
    )
    return sorted((DataFile(**row.asDict()) for row in written), key=lambda file: file.path)


def _write_file(groups: Iterable[pa.Table], schema: pa.Schema, index_url: str, name: str) -> DataFile:
    """Writes one file, one row group a table, whole or not at all."""
    buffer = io.BytesIO()
    num_rows = 0
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for group in groups:
            num_rows += group.num_rows
            writer.write_table(group.select(schema.names).cast(schema), row_group_size=group.num_rows)
    data = buffer.getvalue()
    write_bytes(join(index_url, name), data)
    return DataFile(name, num_rows, len(data), hashlib.sha256(data).hexdigest())


def _groups(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """The rows in tables of exactly ``size``, so that row groups do not follow batch sizes."""
    held: list[pa.RecordBatch] = []
    num_held = 0
    for batch in batches:
        held.append(batch)
        num_held += batch.num_rows
        if num_held >= size:
            table = pa.Table.from_batches(held)
            whole = num_held - num_held % size
            for start in range(0, whole, size):
                yield table.slice(start, size).combine_chunks()
            held, num_held = table.slice(whole).to_batches(), num_held - whole
    if num_held:
        yield pa.Table.from_batches(held).combine_chunks()
