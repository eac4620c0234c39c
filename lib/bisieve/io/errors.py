"""Conversion of the exceptions of stores and disks into `StorageError` and `DiskError`, one line each.

`storage_errors` wraps every use of a store and `disk_errors` every use of a temporary folder; `disk_error`
words one `OSError`.  Which errors are transient, and are tried again first, is in `bisieve.io.retry`.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bisieve.errors import BisieveError, DiskError, StorageError
from bisieve.io.retry import replaced_while_read

# URL scheme -> the extra of this package that installs its driver.
DRIVERS = {
    "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure",
    "hf": "hf",
}  # fmt: skip

# Exceptions of botocore, by name because it need not be installed: credentials are missing or incomplete.
_NOT_SIGNED_IN = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"}

_NO_ROOM = {errno.ENOSPC: "No space left on device", errno.EDQUOT: "Disk quota exceeded"}
_REFUSED = {errno.EACCES, errno.EPERM}
_OF_DISKS_ALONE = {*_NO_ROOM, errno.EROFS, errno.EFBIG}  # never raised for an object store
_RUST_NUMBER = re.compile(r"\(os error (\d+)\)")  # the errno in the text of a Rust error


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Convert every exception in the block into a `StorageError` (or `DiskError`) about ``url``.

    A `BisieveError` passes unchanged.  The original exception is the ``__cause__``.
    """
    try:
        yield
    except BisieveError:
        raise
    except Exception as error:  # drivers have no common base: botocore, aiohttp, OSError, ValueError
        raise _storage_error(url, error) from error


def reason(error: Exception) -> str:
    """Return the first line of an exception's text without the full stop, or the name of its class.

    The line has at most 300 characters.
    """
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300].rstrip(".")


def _storage_error(url: str, error: Exception) -> StorageError:
    """Return the `StorageError`, or `DiskError`, that describes ``error`` about ``url``."""
    if isinstance(error, FileNotFoundError):
        name = str(error.filename or "")  # for a dangling link, the link's own path
        missing = url if url.endswith(name) else name
        return StorageError(f"a file or folder at {missing}", "nothing", "check the URL")
    if isinstance(error, IsADirectoryError):
        return StorageError(f"a file at {url}", "a folder", "name a file inside it, or another one")
    if isinstance(error, NotADirectoryError | FileExistsError):
        return StorageError(f"a folder at {_file_in_the_way(error, url)}", "a file", "name a folder")
    if type(error).__name__ in _NOT_SIGNED_IN:
        hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        return StorageError(f"credentials for {url}", reason(error), hint)
    on_disk = "://" not in url or url.startswith("file://")
    if isinstance(error, OSError) and (on_disk or is_of_this_machine(error)):
        place = url if on_disk else _copy(url, error)
        said = f"{type(error).__name__}: {reason(error)}"
        return disk_error(place, error) or StorageError(f"a working disk at {place}", said, "check the disk")
    if isinstance(error, PermissionError):
        hint = "check the credentials in the environment"
        return StorageError(f"permission to use {url}", reason(error), hint)
    if isinstance(error, ImportError):
        extra = DRIVERS.get(url.split("://")[0])
        hint = f"pip install 'bisieve[{extra}]'" if extra else "install the fsspec package for this store"
        return StorageError(f"a driver for {url}", reason(error), hint)
    if replaced_while_read(error):
        return StorageError(
            f"{url} unchanged while it is read",
            "that it was replaced",
            "run again when its writer has finished",
        )
    return StorageError(
        f"a response from the store of {url}",
        f"{type(error).__name__}: {reason(error)}",
        "check the URL, the network, the endpoint and the credentials",
    )


def _copy(url: str, error: OSError) -> str:
    """Return the local path at which an operation on ``url``, a file in a store, failed."""
    if url.startswith("hdfs://"):  # a file system itself, with quotas and a read-only mode
        return str(error.filename or url)
    return str(error.filename or f"a copy of {url} on this machine")


def _file_in_the_way(error: OSError, url: str) -> str:
    """Return the part of a local path that is a file although a folder is needed there."""
    path = Path(str(error.filename or url.removeprefix("file://")))
    return str(next((part for part in (path, *path.parents) if part.is_file()), url))


@contextmanager
def disk_errors(folder: str | os.PathLike[str], elsewhere: str) -> Iterator[None]:
    """Convert errors of the local disk that holds ``folder`` into `DiskError`; all others pass unchanged.

    The block may also use a store, whose errors are not converted.

    Args:
        folder: The local folder that is used in the block.
        elsewhere: How to choose another folder, such as "set TMPDIR to a folder on another disk".
    """
    try:
        yield
    except BisieveError:
        raise
    except Exception as error:  # safetensors and tokenizers are Rust and have their own exceptions
        found = _raised_in(os.fspath(folder), error)
        said = disk_error(str(found.filename or folder), found, elsewhere) if found else None
        if said is None:
            raise
        raise said from error


def is_of_this_machine(error: OSError) -> bool:
    """Return whether ``error`` comes from a disk of this machine, although it occurred in the use of a store.

    For example, a driver writes a temporary copy and the disk is full.
    """
    return error.errno in _OF_DISKS_ALONE or os.path.isabs(str(error.filename or ""))


def _raised_in(folder: str, error: Exception) -> OSError | None:
    """Return ``error`` as an `OSError` if the disk of ``folder`` caused it, else None.

    A Rust error that names an errno is converted to the `OSError` of that number.
    """
    if isinstance(error, OSError):
        name = str(error.filename or "")
        inside = os.path.isabs(name) and Path(name).is_relative_to(folder)
        # If the folder itself has to be created, the error may name one of its parents.
        above = os.path.isabs(name) and Path(folder).is_relative_to(name)
        nameless = not name and error.errno in _OF_DISKS_ALONE
        return error if inside or above or nameless else None
    number = _RUST_NUMBER.search(str(error))
    return OSError(int(number[1]), os.strerror(int(number[1])), folder) if number else None


def disk_error(url: str, error: OSError, elsewhere: str = "choose another place") -> DiskError | None:
    """Return the `DiskError` for an `OSError` about ``url``, or None if its errno is not one of those below.

    ``elsewhere`` is the part of the hint that says how to choose another place.
    """
    number, path = error.errno, str(error.filename or url.removeprefix("file://"))
    said = os.strerror(number) if number else str(error)
    if number in _NO_ROOM:
        return DiskError(f"room for {url}", _space(number, path), f"free space there, or {elsewhere}")
    if number == errno.EROFS:
        return DiskError(f"a disk that can be written at {url}", said, elsewhere)
    if number in _REFUSED:
        return DiskError(
            f"permission to use {url}", f"{said}: {_stated(path)}",
            f"change the permissions of the file or its folder, or {elsewhere}",
        )  # fmt: skip
    if number == errno.EFBIG:
        return DiskError(
            f"room for a file as large as {url}", f"{said}: a limit of the file system or of ulimit -f",
            f"raise the limit, or {elsewhere}",
        )  # fmt: skip
    if number == errno.ENAMETOOLONG:
        return DiskError(f"a name short enough for the disk at {url}", said, "choose a shorter one")
    if number == errno.ELOOP:
        return DiskError(f"a symbolic link without a loop at {url}", said, "fix the link")
    if number in (errno.EMFILE, errno.ENFILE):
        return DiskError(f"a free file descriptor for {url}", said, "raise the limit: ulimit -n")
    return None


def says_full(text: str) -> bool:
    """Return whether ``text``, the output of another program, reports a full disk or an exceeded quota."""
    return any(words in text for words in _NO_ROOM.values())


def _space(number: int, path: str) -> str:
    """Return the text of "disk full" or "quota exceeded", with the free space of the disk if it is known."""
    if "://" in path:  # a URL: the disk is not known
        return _NO_ROOM[number]
    folder = existing_folder(path)
    free = shutil.disk_usage(folder).free / 1e6
    return f"{_NO_ROOM[number]}: {free:,.1f} MB free in {folder}"


def _stated(path: str) -> str:
    """Return which user this process runs as, and the part of ``path`` that exists."""
    found = next((part for part in (Path(path), *Path(path).parents) if os.path.lexists(part)), Path("/"))
    return f"user {os.geteuid()} has no permission at {found}"


def existing_folder(path: str) -> str:
    """Return ``path`` as an absolute path if it is a folder, else its nearest parent that is one."""
    places = (Path(path).absolute(), *Path(path).absolute().parents)
    return str(next(place for place in places if place.is_dir()))
