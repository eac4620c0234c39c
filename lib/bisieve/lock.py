"""Locks that end with their process: closing the file, also by dying, gives them back."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager


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
