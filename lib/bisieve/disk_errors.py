"""Errors of a disk, each in its own words: none of them is the network's fault, and none passes by itself."""

import errno
import os
import shutil
from pathlib import Path

from bisieve.errors import DiskError

_NO_ROOM = {errno.ENOSPC: "No space left on device", errno.EDQUOT: "Disk quota exceeded"}
_REFUSED = {errno.EACCES, errno.EPERM}


def disk_error(url: str, error: OSError) -> DiskError | None:
    """Return the error for what a disk said about ``url``; None for what has no words of its own here."""
    number, path = error.errno, str(error.filename or url.removeprefix("file://"))
    said = os.strerror(number) if number else str(error)
    if number in _NO_ROOM:
        return DiskError(f"room for {url}", _space(number, path), "free space there, or choose another place")
    if number == errno.EROFS:
        return DiskError(f"a disk that can be written at {url}", said, "choose another place")
    if number in _REFUSED:
        return DiskError(
            f"permission to use {url}", f"{said}: {_stated(path)}",
            "change the permissions of the file or its folder, or choose another place",
        )  # fmt: skip
    if number == errno.EFBIG:
        return DiskError(
            f"room for a file as large as {url}", f"{said}: a limit of the file system or of ulimit -f",
            "raise the limit, or choose another place",
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
