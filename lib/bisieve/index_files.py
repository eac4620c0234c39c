"""The files of an index, read; one that is missing or damaged is told apart from a store that is silent."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from bisieve.damage import damage
from bisieve.errors import IndexUnusableError
from bisieve.manifest import DataFile
from bisieve.storage import join
from bisieve.whole import WholeFile, open_present

MEND = "restore it, or delete it and run bisieve score again"


@contextmanager
def open_part(index_url: str, file: DataFile) -> Iterator[pq.ParquetFile]:
    """A Parquet file of an index; `IndexUnusableError` where it is missing or damaged.

    Read it, as everything, with ``use_threads=False``: a thread of Arrow that holds a Python buffer when
    the process ends makes it abort.
    """
    with _opened(index_url, file) as handle, damage(IndexUnusableError, _expected(index_url, file), MEND):
        yield pq.ParquetFile(handle)


def read_table(index_url: str, file: DataFile) -> pa.Table:
    """A whole Parquet file of an index; `IndexUnusableError` where it is not as it was written."""
    return pq.ParquetFile(pa.BufferReader(read_part(index_url, file))).read(use_threads=False)


def read_part(index_url: str, file: DataFile) -> bytes:
    """The bytes of a file of an index; `IndexUnusableError` where they are not those that were written."""
    with _opened(index_url, file) as handle:
        data = handle.read()
    if len(data) != file.bytes:
        raise IndexUnusableError(_expected(index_url, file), f"{len(data)} bytes", MEND)
    if (found := hashlib.sha256(data).hexdigest()) != file.sha256:
        expected = f"{_expected(index_url, file)}, of sha256 {file.sha256[:16]}"
        raise IndexUnusableError(expected, f"as many of sha256 {found[:16]}", MEND)
    return data


def _expected(index_url: str, file: DataFile) -> str:
    return f"the file of {file.bytes} bytes that the index wrote at {join(index_url, file.path)}"


@contextmanager
def _opened(index_url: str, file: DataFile) -> Iterator[WholeFile]:
    handle = open_present(join(index_url, file.path))
    if handle is None:
        raise IndexUnusableError(_expected(index_url, file), "nothing", MEND)
    with handle:
        yield handle
