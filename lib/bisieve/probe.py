"""Whether something can be written at a URL: asked before hours of work, not after."""

import os
import uuid

from fsspec.implementations.local import LocalFileSystem

from bisieve.errors import StorageError
from bisieve.storage import join, open_filesystem, remove, write_bytes


def require_writable(url: str) -> None:
    """`StorageError` unless files can be written into the folder ``url``, which need not be there yet.

    A store is given a small file, which is taken away again; on a disk the folder's rights tell.
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
    if not os.access(path, os.W_OK | os.X_OK):
        raise StorageError(f"permission to write at {url}", f"none in {path}", "choose another place")
