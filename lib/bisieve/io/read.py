"""Read files to their end: a connection that breaks is resumed, and damage is an error."""

import errno
import lzma
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from bisieve.errors import BisieveError, StorageError
from bisieve.io.errors import reason, storage_errors
from bisieve.io.retry import with_retries
from bisieve.io.storage import open_filesystem


class RetryingFile:
    """A file of fsspec, read whole: a ``read`` is short only at the end that it had when it was opened."""

    def __init__(self, file: Any, url: str) -> None:
        self._file = file
        self._url = url
        self._size = int(file.size)
        self._place = 0

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return bool(self._file.closed)

    def read(self, size: int = -1) -> bytes:
        """The next ``size`` bytes, or all that there are.

        `StorageError` where the store fails, or the file ends too early.
        """
        left = max(self._size - self._place, 0)
        wanted = left if size < 0 else min(size, left)
        pieces = []
        while wanted:
            with storage_errors(self._url):
                piece = with_retries(partial(self._read_at_place, wanted))
            if not piece:
                raise StorageError(
                    f"{self._size} bytes at {self._url}",
                    f"an end after {self._place}",
                    "run again when nobody writes there",
                )
            pieces.append(piece)
            self._place += len(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_at_place(self, size: int) -> bytes:
        self._file.seek(self._place)
        return bytes(self._file.read(size))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Goes to a place, as of every file."""
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def tell(self) -> int:
        """Where the next read begins."""
        return self._place

    def close(self) -> None:
        """Closes it."""
        self._file.close()

    def __enter__(self) -> "RetryingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_retrying(url: str, **how: Any) -> RetryingFile:
    """Opens ``url`` for reading; ``how`` is for fsspec.  `StorageError` for whatever the store raises."""
    fs, path = open_filesystem(url)
    with storage_errors(url):
        return RetryingFile(with_retries(lambda: fs.open(path, "rb", **how)), url)


def open_present(url: str) -> RetryingFile | None:
    """As `open_retrying`; None where there is no such file."""
    try:
        return open_retrying(url)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def read_ranges(url: str, starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
    """The bytes of ``url`` from each start to its end, a request each; `StorageError` where one is short."""
    fs, path = open_filesystem(url)
    exactly = {"cache_type": "none"} if url.startswith("hf://") else {}  # it would read 5 MiB more each time
    found: dict[int, bytes] = {}

    def read() -> None:
        missing = [place for place in range(len(starts)) if place not in found]
        asked = ([path] * len(missing), [starts[i] for i in missing], [ends[i] for i in missing])
        failed: Exception | None = None
        for place, block in zip(missing, fs.cat_ranges(*asked, on_error="return", **exactly), strict=True):
            if isinstance(block, Exception):
                failed = block
            elif len(block) < ends[place] - starts[place]:
                failed = OSError(errno.EIO, f"{len(block)} of {ends[place] - starts[place]} bytes")
            else:
                found[place] = bytes(block)
        if failed is not None:
            raise failed

    with storage_errors(url):
        with_retries(read)
    return [found[place] for place in range(len(starts))]


@contextmanager
def damage(kind: type[BisieveError], expected: str, hint: str) -> Iterator[None]:
    """Turn what a decoder raises about bytes that it cannot decode into one error of ``kind``.

    What a store raises about a `RetryingFile` is a `StorageError` before it comes here.
    """
    import pyarrow as pa  # here: the benchmark of a step has none

    try:
        yield
    except (pa.ArrowException, OSError, EOFError, lzma.LZMAError) as error:
        raise kind(expected, reason(error), hint) from error
