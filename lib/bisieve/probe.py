"""Whether something can be written at a URL: asked before hours of work, not after."""

import os
import tempfile
import uuid

from fsspec.implementations.local import LocalFileSystem

from bisieve.errors import StorageError
from bisieve.storage import join, open_filesystem, remove, storage_errors, write_bytes


def require_writable(url: str) -> None:
    """`StorageError` unless files can be written into the folder ``url``, which need not be there yet.

    A small file is written and removed: rights alone say nothing of a full disk.
    """
    fs, path = open_filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        probe = join(url, f".probe-{uuid.uuid4().hex}")
        write_bytes(probe, b"")
        remove([probe])
        return
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        raise StorageError(f"a folder at {path}", "a file", "name a folder")
    with storage_errors(url), tempfile.TemporaryFile(dir=path) as file:
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())
