"""Atomic writes on a local disk: a file becomes visible when it is complete."""

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
    """Open a temporary file for writing, and rename it to ``path`` when the block ends without an error.

    Missing parent folders are created.  If ``path`` is a symbolic link, its target is replaced and the link
    stays.  After an error the temporary file is deleted.

    Raises:
        StorageError: The file cannot be written, or ``path`` is a folder, a device or a pipe: the rename
            would replace a device or a pipe by a file.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "a device or a pipe"
        raise StorageError(f"a path for a file at {url}", kind, "choose another path")
    path = os.path.realpath(path)
    # An object store shows an object when its upload ends; on a disk only a rename is as atomic.
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
        with suppress(StorageError):  # on a full disk the rest of the buffer cannot be written either
            file.close()
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise


class _Output(io.BufferedWriter):
    """File whose own writes raise `StorageError` about ``url``.

    An `OSError` that the caller's code raises in the same block is not converted.
    """

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
