"""Compare-and-swap of small files.

`read_pointer` reads a file with a token; `replace_pointer` writes it only if the token is still the same.
S3 compares ETags in the request (``If-Match``, ``If-None-Match``).  On a local disk the content is compared
under a file lock.  Other stores have no such request: the content is compared right before the write, and
two writers that do so at the same moment may both succeed.
"""

import errno
import hashlib
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from bisieve.errors import StorageError
from bisieve.io.disk import locked
from bisieve.io.errors import storage_errors
from bisieve.io.retry import with_retries
from bisieve.io.storage import write_bytes
from bisieve.io.urls import open_filesystem


@dataclass(frozen=True)
class Pointer:
    """Content of a small file when it was read, and the token to compare it by."""

    url: str
    data: bytes | None  # None: the file did not exist
    token: str | None  # S3: the ETag; else the SHA-256 of the content; None: the file did not exist


def read_pointer(url: str) -> Pointer:
    """Read the file at ``url``, which need not exist, with its token."""
    fs, path = open_filesystem(url)
    with storage_errors(url):
        fs.invalidate_cache()
        try:
            # The token first: if the file changes in between, the token is the old one and a later
            # replacement is refused.  The other way round it would overwrite content that was never read.
            token = with_retries(lambda: fs.info(path))["ETag"] if _is_s3(fs) else None
            data = bytes(with_retries(lambda: fs.cat_file(path)))
        except FileNotFoundError:
            return Pointer(url, None, None)
    return Pointer(url, data, token or hashlib.sha256(data).hexdigest())


def replace_pointer(old: Pointer, data: bytes) -> None:
    """Write ``data`` to the URL of ``old`` if the file has not changed since ``old`` was read.

    Raises:
        StorageError: The file has changed, was created or was deleted since, or the store fails.
    """
    fs, path = open_filesystem(old.url)
    if _is_s3(fs):
        condition = {"mode": "create"} if old.token is None else {"IfMatch": old.token}
        with storage_errors(old.url):
            try:
                with_retries(lambda: fs.pipe_file(path, data, **condition))
            except OSError as error:
                if not isinstance(error, FileExistsError) and error.errno != errno.EINVAL:
                    raise
                # If only the answer was lost, the retry of a write that succeeded finds its own content.
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
        f"{url} unchanged since this run read it",
        "a version written by another run",
        "check that version, then run again (it was not modified)",
    )


def _locked(path: str) -> AbstractContextManager[None]:
    """Lock the file ``path`` by a lock file beside it; missing folders are created."""
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    return locked(os.path.join(folder, f".{name}.lock"))
