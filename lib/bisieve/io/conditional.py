"""Compare-and-swap of small files, and locks that end with their process.

S3 compares ETags (``If-Match``, ``If-None-Match``); on a disk a lock and the content decide.  Other stores
are asked once more right before the write: there two writers that meet within that moment may both win.
"""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from bisieve.errors import StorageError
from bisieve.io.errors import storage_errors
from bisieve.io.retry import with_retries
from bisieve.io.storage import open_filesystem, write_bytes


@dataclass(frozen=True)
class Pointer:
    """The file as it was when it was read."""

    url: str
    data: bytes | None  # None: there was none
    token: str | None  # tells this content from any other


def read_pointer(url: str) -> Pointer:
    """The file at ``url``, which need not be there."""
    fs, path = open_filesystem(url)
    with storage_errors(url):
        fs.invalidate_cache()
        try:
            # The token first: when the content is newer than it, a replacement is refused, never the reverse.
            token = with_retries(lambda: fs.info(path))["ETag"] if _is_s3(fs) else None
            data = bytes(with_retries(lambda: fs.cat_file(path)))
        except FileNotFoundError:
            return Pointer(url, None, None)
    return Pointer(url, data, token or hashlib.sha256(data).hexdigest())


def replace_pointer(old: Pointer, data: bytes) -> None:
    """Puts ``data`` where ``old`` was read; `StorageError` when it is not what lies there any more."""
    fs, path = open_filesystem(old.url)
    if _is_s3(fs):
        condition = {"mode": "create"} if old.token is None else {"IfMatch": old.token}
        with storage_errors(old.url):
            try:
                with_retries(lambda: fs.pipe_file(path, data, **condition))
            except OSError as error:
                if not isinstance(error, FileExistsError) and error.errno != errno.EINVAL:
                    raise
                # Sent again when its answer was lost, a write that won meets itself.
                if read_pointer(old.url).data != data:
                    raise _conflict(old.url) from error
        return
    with storage_errors(old.url), _locked(path) if isinstance(fs, LocalFileSystem) else nullcontext():
        if read_pointer(old.url).token != old.token:
            raise _conflict(old.url)
        write_bytes(old.url, data)


def _is_s3(fs: Any) -> bool:
    return "s3" in fs.protocol


def _conflict(url: str) -> StorageError:
    return StorageError(
        f"{url} as it was when this run began",
        "that another run has replaced it since",
        "look at what it published, then run again; nothing of it was touched",
    )


def _locked(path: str) -> AbstractContextManager[None]:
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    return locked(os.path.join(folder, f".{name}.lock"))


@contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Holds the lock file at ``path`` while the block runs; waits for whoever holds it, on this machine."""
    with open(path, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hold(folder: str | os.PathLike[str]) -> int:
    """A lock on a folder itself, held until the descriptor that this returns is closed.

    `BlockingIOError` where another process holds it, another `OSError` where there is no such folder.
    """
    holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(folder)  # who held it before may have removed it
    except OSError:
        os.close(holder)
        raise
    return holder
