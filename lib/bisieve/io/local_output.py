"""A file on a disk that appears when it is complete."""

import io
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from bisieve.errors import StorageError
from bisieve.io.errors import storage_errors

_BUFFER = 1 << 16  # bytes


@contextmanager
def open_local_output(url: str, path: str) -> Iterator[IO[bytes]]:
    """A file that stands at ``path`` when the block ends well; a link there stays, and leads to it.

    `StorageError` where it cannot be written, and where what lies there is no file: a rename would put a file
    in the place of a device or a pipe.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "a device or a pipe"
        raise StorageError(f"a file, or nothing, at {url}", kind, "name a file")
    path = os.path.realpath(path)
    # An object store shows an object when its upload ends; on a disk only a rename does the same.
    unfinished = f"{path}.{uuid.uuid4().hex}.tmp"
    with storage_errors(url):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = _Output(io.FileIO(unfinished, "wb"), url)
    try:
        yield file
        with storage_errors(url):
            file.close()
            os.replace(unfinished, path)
    except BaseException:
        with suppress(StorageError):  # what is left in its buffer finds no room either
            file.close()
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise


class _Output(io.BufferedWriter):
    """A file whose writes fail with a `StorageError` of ``url``; an `OSError` of the caller's stays his."""

    def __init__(self, raw: io.RawIOBase, url: str) -> None:
        super().__init__(raw, _BUFFER)
        self._url = url

    def write(self, data: Any) -> int:
        with storage_errors(self._url):
            return super().write(data)

    def writelines(self, lines: Iterable[Any]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with storage_errors(self._url):
            super().flush()

    def close(self) -> None:
        with storage_errors(self._url):
            super().close()
