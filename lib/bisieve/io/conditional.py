"""A small file that several writers may want to replace: who read an older one is refused.

S3 compares ETags (``If-Match``, ``If-None-Match``); on a disk a lock and the content decide.  Other stores
are asked once more right before the write: there two writers that meet within that moment may both win.
"""

import errno
import hashlib
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from bisieve.errors import StorageError
from bisieve.lock import locked
from bisieve.patience import patiently
from bisieve.storage import open_filesystem, storage_errors, write_bytes


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
            token = patiently(lambda: fs.info(path))["ETag"] if _is_s3(fs) else None
            data = bytes(patiently(lambda: fs.cat_file(path)))
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
                patiently(lambda: fs.pipe_file(path, data, **condition))
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
