"""Errors of a disk, each in its own words: none of them is the network's fault, and none passes by itself."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bisieve.errors import BisieveError, DiskError

_NO_ROOM = {errno.ENOSPC: "No space left on device", errno.EDQUOT: "Disk quota exceeded"}
_REFUSED = {errno.EACCES, errno.EPERM}
_OF_DISKS_ALONE = {*_NO_ROOM, errno.EROFS, errno.EFBIG}  # no object store says so
_RUST_NUMBER = re.compile(r"\(os error (\d+)\)")  # what Rust adds to the text of an operating system's error


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
