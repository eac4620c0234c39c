"""Folders on this machine for what is on its way to a store; the next worker removes those of a killed one.

TMPDIR/bisieve-scratch-RANDOM/       one a process, which holds a lock on it for as long as it lives
       checkpoint-RANDOM/ …          what it has in hand
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path

from bisieve.errors import DiskError
from bisieve.io.conditional import hold
from bisieve.io.errors import disk_errors

_PREFIX = "bisieve-scratch-"
_ELSEWHERE = "set TMPDIR to a folder on another disk"


def scratch_folder(name: str) -> Path:
    """Return a new folder below ``TMPDIR``; `DiskError` without one.  The caller removes it.

    ``name`` is what its name begins with.
    """
    with scratch_errors(temporary_folder()):
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_ours()[0]))


def scratch_errors(folder: Path) -> AbstractContextManager[None]:
    """Raise what the disk refuses in ``folder``, a scratch folder, as a `DiskError` that names ``TMPDIR``."""
    return disk_errors(folder, _ELSEWHERE)


@contextmanager
def passing_folder(name: str) -> Iterator[Path]:
    """A new folder below ``TMPDIR``, removed when the block ends; `DiskError` for what its disk refuses."""
    folder = scratch_folder(name)
    try:
        with scratch_errors(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def tidy_scratch() -> Iterator[None]:
    """Removes what dead processes have left; at its end, the folder of this one, where it is empty."""
    remove_orphans()
    try:
        yield
    finally:
        with suppress(OSError):  # something is still on its way
            root, holder = _ours()
            root.rmdir()
            os.close(holder)
            _ours.cache_clear()


def remove_orphans() -> None:
    """Removes the folders of this user's processes that are no more."""
    for folder in temporary_folder().glob(f"{_PREFIX}*"):
        with suppress(OSError):  # its owner lives, or it is somebody else's
            holder = hold(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(holder)


def temporary_folder() -> Path:
    """Return the folder that Python has found for temporary files; `DiskError` where no place takes any."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # of all places, which its text lists
        raise DiskError("a folder for temporary files", str(error.strerror), _ELSEWHERE) from error


@cache
def _ours() -> tuple[Path, int]:
    """The folder of this process, and the descriptor that holds it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with suppress(BlockingIOError, FileNotFoundError):  # taken for a dead one's before it was held
            return folder, hold(folder)
