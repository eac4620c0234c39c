"""Temporary folders for files on their way to or from a store.

TMPDIR/bisieve-scratch-RANDOM/       one per process, which holds a lock on it until the process ends
       checkpoint-RANDOM/ …          one per `scratch_folder`

A killed process cannot delete its folder; the next process that uses `tidy_scratch` does.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from multiprocessing import util
from pathlib import Path

from bisieve.errors import DiskError
from bisieve.io.conditional import hold
from bisieve.io.errors import disk_errors

_PREFIX = "bisieve-scratch-"
_LONGEST_SOCKET = 103  # bytes of a Unix socket's path on macOS; 107 on Linux
_SOCKET_NAME = (
    "/pymp-12345678/listener-12345678"  # that `multiprocessing` gives it below the temporary folder
)
_SHORT = "/tmp"
_ELSEWHERE = "set TMPDIR to a folder on another disk"


def scratch_folder(name: str) -> Path:
    """Create a folder below ``TMPDIR`` whose name begins with ``name``, and return it.

    The caller deletes it.

    Raises:
        DiskError: The folder cannot be created.
    """
    with scratch_errors(temporary_folder()):
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_ours()[0]))


def scratch_errors(folder: Path) -> AbstractContextManager[None]:
    """Convert disk errors in ``folder``, a scratch folder, into a `DiskError` whose hint names ``TMPDIR``."""
    return disk_errors(folder, _ELSEWHERE)


@contextmanager
def passing_folder(name: str) -> Iterator[Path]:
    """Create a folder below ``TMPDIR`` and delete it when the block ends.

    Errors of its disk inside the block are raised as `DiskError`.
    """
    folder = scratch_folder(name)
    try:
        with scratch_errors(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def tidy_scratch() -> Iterator[None]:
    """Delete the scratch folders of dead processes; at the end of the block, this process's own if empty."""
    remove_orphans()
    try:
        yield
    finally:
        with suppress(OSError):  # not empty: a file is still being written or uploaded
            root, holder = _ours()
            root.rmdir()
            os.close(holder)
            _ours.cache_clear()


def remove_orphans() -> None:
    """Delete the scratch folders of processes that have ended, as far as this user may."""
    for folder in temporary_folder().glob(f"{_PREFIX}*"):
        with suppress(OSError):  # its process is alive, or it belongs to another user
            holder = hold(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(holder)


def choose_socket_folder() -> None:
    """Make the folder of `multiprocessing`'s sockets; in ``/tmp`` if the path of ``TMPDIR`` is too long.

    Call it before the first fork server of a process starts; later calls have no effect.

    Raises:
        DiskError: The folder cannot be created.
    """
    folder = temporary_folder()
    with scratch_errors(folder):
        if len(os.fsencode(folder)) + len(_SOCKET_NAME) > _LONGEST_SOCKET:
            before, tempfile.tempdir = tempfile.tempdir, _SHORT
            try:
                util.get_temp_dir()
            finally:
                tempfile.tempdir = before
        else:
            util.get_temp_dir()


def temporary_folder() -> Path:
    """Return Python's folder for temporary files.

    Raises:
        DiskError: None of the places that Python tries is writable.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # its text lists the places that were tried
        raise DiskError("a folder for temporary files", str(error.strerror), _ELSEWHERE) from error


@cache
def _ours() -> tuple[Path, int]:
    """Return the scratch folder of this process, and the file descriptor that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Between the two calls another process may lock and delete the folder as one of a dead process.
        with suppress(BlockingIOError, FileNotFoundError):
            return folder, hold(folder)
