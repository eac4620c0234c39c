"""Complete reads of files: broken connections are resumed, and short or damaged files raise an error.

`open_retrying` and `open_present` return a `RetryingFile`; `read_ranges` reads byte ranges; `damage` wraps
code that decodes what was read.
"""

import errno
import lzma
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from bisieve.errors import BisieveError, StorageError
from bisieve.io.errors import reason, storage_errors
from bisieve.io.retry import with_retries
from bisieve.io.urls import open_filesystem


class RetryingFile:
    """Read-only file over an fsspec file, whose ``read`` returns fewer bytes only at the end of the file.

    The end is the size when the file was opened.
    """

    def __init__(self, file: Any, url: str) -> None:
        self._file = file
        self._url = url
        self._size = int(file.size)
        self._place = 0

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return bool(self._file.closed)

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, or all that are left if ``size`` is negative.

        Raises:
            StorageError: The store fails, or the file ends before the size that it had when it was opened.
        """
        left = max(self._size - self._place, 0)
        wanted = left if size < 0 else min(size, left)
        pieces = []
        while wanted:
            with storage_errors(self._url):
                piece = with_retries(partial(self._read_at_place, wanted))
            if not piece:
                raise StorageError(
                    f"{self._size} bytes in {self._url}",
                    f"only {self._place}",
                    "run again when nothing is writing to it",
                )
            pieces.append(piece)
            self._place += len(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_at_place(self, size: int) -> bytes:
        self._file.seek(self._place)
        return bytes(self._file.read(size))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the position of the next read and return it, as `io.IOBase.seek` does."""
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def tell(self) -> int:
        """Return the offset at which the next read begins."""
        return self._place

    def close(self) -> None:
        """Close the underlying file."""
        self._file.close()

    def __enter__(self) -> "RetryingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_retrying(url: str, **how: Any) -> RetryingFile:
    """Open ``url`` for reading; ``how`` is passed to fsspec's ``open``.

    Raises:
        StorageError: The file does not exist, or the store fails.
    """
    fs, path = open_filesystem(url)
    with storage_errors(url):
        return RetryingFile(with_retries(lambda: fs.open(path, "rb", **how)), url)


def open_present(url: str) -> RetryingFile | None:
    """Open ``url`` as `open_retrying` does, or return None if the file does not exist."""
    try:
        return open_retrying(url)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def read_ranges(url: str, starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
    """Return the bytes of ``url`` from each start up to its end, with one request for each range.

    Raises:
        StorageError: The store fails, or a range is still short after the retries.
    """
    fs, path = open_filesystem(url)
    exactly = {"cache_type": "none"} if url.startswith("hf://") else {}  # else each request reads 5 MiB more
    found: dict[int, bytes] = {}

    def read() -> None:
        missing = [place for place in range(len(starts)) if place not in found]
        asked = ([path] * len(missing), [starts[i] for i in missing], [ends[i] for i in missing])
        failed: Exception | None = None
        for place, block in zip(missing, fs.cat_ranges(*asked, on_error="return", **exactly), strict=True):
            if isinstance(block, Exception):
                failed = block
            elif len(block) < ends[place] - starts[place]:
                failed = OSError(errno.EIO, f"{len(block):,} of {ends[place] - starts[place]:,} bytes")
            else:
                found[place] = bytes(block)
        if failed is not None:
            raise failed

    with storage_errors(url):
        with_retries(read)
    return [found[place] for place in range(len(starts))]


@contextmanager
def damage(kind: type[BisieveError], expected: str, hint: str) -> Iterator[None]:
    """Convert errors of a decoder (Arrow, gzip, xz, …) about damaged bytes into one error of ``kind``.

    Failures of the store pass unchanged, because a `RetryingFile` raises them as `StorageError`.

    Args:
        kind: The error to raise.
        expected: Its first part, such as "a Parquet file at URL"; the second is what the decoder said.
        hint: Its last part: what the user can do.
    """
    import pyarrow as pa  # here: the benchmark of a training step runs without pyarrow

    try:
        yield
    except (pa.ArrowException, OSError, EOFError, lzma.LZMAError) as error:
        raise kind(expected, reason(error), hint) from error
