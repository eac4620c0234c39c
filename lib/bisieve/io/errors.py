"""Turn what stores and disks raise into one line that says what to do."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bisieve.errors import BisieveError, DiskError, StorageError
from bisieve.io.retry import replaced_while_read

# Which extra of this package brings the driver of a URL scheme.
DRIVERS = {
    "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure",
    "hf": "hf",
}  # fmt: skip

# Of botocore, which need not be there: nobody has signed in, or only by halves.
_NOT_SIGNED_IN = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"}

_NO_ROOM = {errno.ENOSPC: "No space left on device", errno.EDQUOT: "Disk quota exceeded"}
_REFUSED = {errno.EACCES, errno.EPERM}
_OF_DISKS_ALONE = {*_NO_ROOM, errno.EROFS, errno.EFBIG}  # no object store says so
_RUST_NUMBER = re.compile(r"\(os error (\d+)\)")  # what Rust adds to the text of an operating system's error


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turns whatever a store raises about ``url`` into one `StorageError`."""
    try:
        yield
    except BisieveError:
        raise
    except Exception as error:  # stores raise what they like: botocore, aiohttp, OSError, ValueError
        raise _said(url, error) from error


def reason(error: Exception) -> str:
    """The first line of what an exception says, without a full stop, or its name."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300].rstrip(".")


def _said(url: str, error: Exception) -> StorageError:
    if isinstance(error, FileNotFoundError):
        name = str(error.filename or "")  # a link that leads nowhere is told by its own name
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
        return disk_error(place, error) or StorageError(f"a disk that serves {place}", said, "check the disk")
    if isinstance(error, PermissionError):
        hint = "check the credentials in the environment"
        return StorageError(f"permission to use {url}", reason(error), hint)
    if isinstance(error, ImportError):
        extra = DRIVERS.get(url.split("://")[0])
        hint = f"pip install 'bisieve[{extra}]'" if extra else "install the fsspec package for this store"
        return StorageError(f"a driver for {url}", reason(error), hint)
    if replaced_while_read(error):
        return StorageError(
            f"{url} to stay as it is while it is read", "another file there", "run again when it is complete"
        )
    return StorageError(
        f"an answer from the store of {url}",
        f"{type(error).__name__}: {reason(error)}",
        "check the URL, the network, the endpoint and the credentials",
    )


def _copy(url: str, error: OSError) -> str:
    """Where on this machine a disk refused what belongs to ``url``, a file in a store."""
    if url.startswith("hdfs://"):  # a file system, which has quotas and a mode to read only
        return str(error.filename or url)
    return str(error.filename or f"a copy of {url} on this machine")


def _file_in_the_way(error: OSError, url: str) -> str:
    """The file that lies where a folder should, of a path on a disk."""
    path = Path(str(error.filename or url.removeprefix("file://")))
    return str(next((part for part in (path, *path.parents) if part.is_file()), url))


@contextmanager
def disk_errors(folder: str | os.PathLike[str], elsewhere: str) -> Iterator[None]:
    """Raise what the disk of ``folder`` refuses as a `DiskError`; let every other error pass.

    A store may be read in the block: its errors are no disk's.  ``elsewhere`` says how to choose another
    folder, such as "set TMPDIR to a folder on another disk".
    """
    try:
        yield
    except BisieveError:
        raise
    except Exception as error:  # safetensors and tokenizers, which are Rust, have errors of their own
        found = _raised_in(os.fspath(folder), error)
        said = disk_error(str(found.filename or folder), found, elsewhere) if found else None
        if said is None:
            raise
        raise said from error


def is_of_this_machine(error: OSError) -> bool:
    """Return whether a disk of this machine raised ``error``, though it was met while a store was used."""
    return error.errno in _OF_DISKS_ALONE or os.path.isabs(str(error.filename or ""))


def _raised_in(folder: str, error: Exception) -> OSError | None:
    """Return ``error`` as Python would raise it of a disk at ``folder``; None where it is another's."""
    if isinstance(error, OSError):
        name = str(error.filename or "")
        inside = os.path.isabs(name) and Path(name).is_relative_to(folder)
        # The folder itself may have to be made, and one above it may refuse that.
        above = os.path.isabs(name) and Path(folder).is_relative_to(name)
        nameless = not name and error.errno in _OF_DISKS_ALONE
        return error if inside or above or nameless else None
    number = _RUST_NUMBER.search(str(error))
    return OSError(int(number[1]), os.strerror(int(number[1])), folder) if number else None


def disk_error(url: str, error: OSError, elsewhere: str = "choose another place") -> DiskError | None:
    """Return the error for what a disk said about ``url``; None for what has no words of its own here.

    ``elsewhere`` says how to choose another place.
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
        return DiskError(f"a link that leads somewhere at {url}", said, "correct the link")
    if number in (errno.EMFILE, errno.ENFILE):
        return DiskError(f"a free file descriptor for {url}", said, "raise the limit: ulimit -n")
    return None


def says_full(text: str) -> bool:
    """Return whether ``text``, of a program in another language, says that a disk is full."""
    return any(words in text for words in _NO_ROOM.values())


def _space(number: int, path: str) -> str:
    if "://" in path:  # which disk it was is not known
        return _NO_ROOM[number]
    folder = existing_folder(path)
    free = shutil.disk_usage(folder).free / 1e6
    return f"{_NO_ROOM[number]}: {free:.1f} MB free in {folder}"


def _stated(path: str) -> str:
    """Name what of ``path`` is there, and who this process is."""
    found = next((part for part in (Path(path), *Path(path).parents) if os.path.lexists(part)), Path("/"))
    return f"user {os.geteuid()} has no permission at {found}"


def existing_folder(path: str) -> str:
    """Return the nearest folder of ``path`` that exists."""
    places = (Path(path).absolute(), *Path(path).absolute().parents)
    return str(next(place for place in places if place.is_dir()))
