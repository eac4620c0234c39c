"""Folders on this machine for what is on its way to a store; the next worker removes those of a killed one.

TMPDIR/bisieve-scratch-RANDOM/       one a process, which holds a lock on it for as long as it lives
       checkpoint-RANDOM/ …          what it has in hand
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from bisieve.lock import hold

_PREFIX = "bisieve-scratch-"


def scratch_folder(name: str) -> Path:
    """A new folder below ``TMPDIR``, for whoever asks to remove; ``name`` is what its name begins with."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_ours()[0]))


@contextmanager
def passing_folder(name: str) -> Iterator[Path]:
    """A new folder below ``TMPDIR``, removed when the block ends."""
    folder = scratch_folder(name)
    try:
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
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # its owner lives, or it is somebody else's
            holder = hold(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(holder)


@cache
def _ours() -> tuple[Path, int]:
    """The folder of this process, and the descriptor that holds it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with suppress(BlockingIOError, FileNotFoundError):  # taken for a dead one's before it was held
            return folder, hold(folder)
