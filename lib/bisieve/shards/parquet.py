"""Read Parquet shards: the rows of a split (`read_split`), or single rows by their number (`read_rows`)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bisieve.errors import CorpusError
from bisieve.io.read import damage, open_retrying
from bisieve.records.embedded_images import Locate, all_safe, holds_images, in_names
from bisieve.records.options import Layout, ReadOptions
from bisieve.shards.listing import Split
from bisieve.shards.parquet_fields import is_list, needed_columns, record_rows

BATCH_ROWS, BATCH_BYTES = 2**13, 2**24  # limits of the rows held at once; the smaller one counts
_BUFFER = 2**20  # bytes of a column read at once

Numbered = tuple[int, pa.RecordBatch]  # the number of the first row in the file, and rows


def read_split(split: Split, layout: Layout, reading: ReadOptions) -> Iterator[Numbered]:
    """Yield the rows of the row groups that begin in ``split``, in the form of `record_rows`.

    Memory holds a part of one row group.

    Raises:
        CorpusError: The file is not valid Parquet.
        StorageError: The file cannot be read.
    """
    partition = reading.partition_of(split.shard)
    with _opened(split.shard) as file:
        for group, first_row in _groups(file.metadata):
            if split.start <= _begins(file.metadata.row_group(group)) < split.end:
                columns = _columns(file, group, layout, reading)
                for start, rows in _read_group(file, group, first_row, columns):
                    yield start, record_rows(rows, layout, reading, partition)


def read_rows(
    url: str,
    numbers: Sequence[int],
    layout: Layout,
    reading: ReadOptions,
    locate: Locate | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (number, row) for rows by their numbers, as dicts with bisieve's names.

    A number that the file does not have is skipped.  Each row group that contains one of the rows is read
    once.

    Args:
        url: The shard.
        numbers: Row numbers in the file, sorted.
        layout: Whether a row is a rollout or a step.
        reading: How rows are read.
        locate: Called with the file's value for the image of a row, bytes included, and the place of the
            row (``url@number``); its result becomes the row's image.  Without it the image is the name that
            the index has.

    Raises:
        CorpusError: The file is not valid Parquet.
        StorageError: The file cannot be read.
    """
    wanted = np.asarray(numbers, np.int64)
    partition = reading.partition_of(url)
    with _opened(url) as file:
        for group, first_row in _groups(file.metadata):
            if not len(_among(wanted, first_row, file.metadata.row_group(group).num_rows)):
                continue
            columns = (
                needed_columns(file.schema_arrow.names, layout, reading)
                if locate
                else _columns(file, group, layout, reading)
            )
            for start, rows in _read_group(file, group, first_row, columns):
                mine = _among(wanted, start, rows.num_rows)
                chosen = rows.take(pa.array(mine - start))
                found = record_rows(chosen, layout, reading, partition).to_pylist()
                if locate and reading.names["image"] in rows.schema.names:
                    images = chosen[reading.names["image"]]
                    for number, row, image in zip(mine.tolist(), found, images, strict=True):
                        row["image"] = locate(image.as_py(), f"{url}@{number}")
                yield from zip(mine.tolist(), found, strict=True)


def shown_layout(url: str, reading: ReadOptions) -> Layout | None:
    """Return the layout that the columns of a shard show, or None if they show none."""
    return reading.layout_of({column.name: is_list(column.type) for column in columns_of(url)})


def columns_of(url: str) -> pa.Schema:
    """Return the Arrow schema of a shard."""
    with _opened(url) as file:
        return file.schema_arrow


@contextmanager
def _opened(url: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet shard; errors in the block about its bytes are raised as `CorpusError`."""
    hint = "recreate it, or exclude it from --input"
    with (
        open_retrying(url, cache_type="none") as handle,
        damage(CorpusError, f"a Parquet file at {url}", hint),
    ):
        yield pq.ParquetFile(handle, buffer_size=_BUFFER, pre_buffer=False)


def _groups(metadata: pq.FileMetaData) -> Iterator[tuple[int, int]]:
    """Yield each row group's number, and the number of its first row in the file."""
    first_row = 0
    for group in range(metadata.num_row_groups):
        yield group, first_row
        first_row += metadata.row_group(group).num_rows


def _begins(group: pq.RowGroupMetaData) -> int:
    """Return the offset in the file of a row group's first byte."""
    column = group.column(0)
    return int(column.dictionary_page_offset or column.data_page_offset)


def _columns(file: pq.ParquetFile, group: int, layout: Layout, reading: ReadOptions) -> list[str]:
    """Return the columns to read for scoring.

    Of embedded images with safe paths these are only the paths, so that the images are not read.
    """
    columns = needed_columns(file.schema_arrow.names, layout, reading)
    image = reading.names["image"]
    if image not in columns or not holds_images(file.schema_arrow.field(image).type):
        return columns
    leaves = [file.schema.column(number).path for number in range(len(file.schema.names))]
    paths = [leaf for leaf in leaves if leaf.startswith(f"{image}.") and leaf.endswith(".path")]
    if len(paths) != 1:
        return columns
    for rows in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=paths, use_threads=False):
        if not all_safe(in_names(rows[image])):
            return columns
    return [name if name != image else paths[0] for name in columns]


def _read_group(file: pq.ParquetFile, group: int, first_row: int, columns: list[str]) -> Iterator[Numbered]:
    """Yield the rows of a row group in batches within `BATCH_ROWS` and about `BATCH_BYTES`."""
    about = file.metadata.row_group(group)
    row_bytes = about.total_byte_size // max(about.num_rows, 1) + 1
    size = max(1, min(BATCH_ROWS, BATCH_BYTES // row_bytes))
    for rows in file.iter_batches(size, row_groups=[group], columns=columns, use_threads=False):
        yield first_row, rows
        first_row += rows.num_rows


def _among(numbers: Any, first: int, count: int) -> Any:
    """Return those of the sorted ``numbers`` that are in ``[first, first + count)``."""
    return numbers[np.searchsorted(numbers, first) : np.searchsorted(numbers, first + count)]
