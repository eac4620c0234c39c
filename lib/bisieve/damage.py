"""Files that are there and cannot be decoded: cut off, or overwritten."""

import lzma
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from bisieve.errors import BisieveError
from bisieve.store_errors import reason


@contextmanager
def damage(kind: type[BisieveError], expected: str, mend: str) -> Iterator[None]:
    """Turn what a decoder raises about bytes that it cannot decode into one error of ``kind``.

    What a store raises about a `whole.WholeFile` is a `StorageError` before it comes here.
    """
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, lzma.LZMAError) as error:
        raise kind(expected, reason(error), mend) from error
