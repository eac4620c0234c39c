"""A file on a disk that appears when it is complete."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from bisieve.errors import StorageError
from bisieve.store_errors import storage_errors


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
        file = open(unfinished, "wb")  # noqa: SIM115 - closed before the rename, below
    try:
        yield file
        with storage_errors(url):
            file.close()
            os.replace(unfinished, path)
    except BaseException:
        file.close()
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise
