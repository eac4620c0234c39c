"""What a command asks of its process: standard streams, a working directory, signals, garbage collection."""

import atexit
import errno
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bisieve.errors import DiskError, UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def open_closed_streams() -> None:
    """Open the standard streams that the process was started without, as by ``>&-``; they lead nowhere.

    Each takes the lowest free descriptor, which is its own. Else the next file that is opened would be stdout
    to all that writes to descriptor 1.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def discard_stdout() -> None:
    """Discard what stdout still holds: Python would report the error once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def full_disk(error: OSError) -> DiskError | None:
    """Return the error in our form if it is of a disk that is full; else None.

    Files that we write name themselves (`bisieve.io.errors`). So it is stdout, or a file of a library.
    """
    if error.errno not in _FULL or error.filename:
        return None
    expected, found = "room for stdout and for temporary files", os.strerror(error.errno)
    return DiskError(expected, found, "free space, or write elsewhere")


def check_working_directory() -> None:
    """Check that the working directory still exists: without one, no child process can start.

    Raises:
        UsageError: It has been deleted.
    """
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UsageError(
            "an existing working directory", "a deleted one", "cd to another directory"
        ) from error


@contextmanager
def sigterm_as_interrupt(terminated: list[int]) -> Iterator[None]:
    """Let SIGTERM end the ``with`` block as Ctrl-C would at that moment.

    Does nothing outside the main thread, or if SIGTERM has a handler already. The default handler is restored
    at the end.

    Args:
        terminated: Each SIGTERM is appended, so that the caller can tell it from Ctrl-C.
    """

    def on_sigterm(number: int, frame: Any) -> None:
        terminated.append(number)
        on_interrupt = signal.getsignal(signal.SIGINT)
        if not callable(on_interrupt):
            raise KeyboardInterrupt
        on_interrupt(signal.SIGINT, frame)

    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


_THRESHOLDS = (100_000, 20, 20)  # Python's own: 700 (2,000 from 3.12 on), 10, 10


def collect_seldom() -> None:
    """Collect garbage less often in this process, and none at its end.

    What is imported is no garbage: half a million objects of torch, transformers and Ray, which the collector
    would look through again and again while they are made, and twice when the process ends: of the 5 seconds
    of a core that imports and end of a training take, 1.5.
    """
    gc.set_threshold(*_THRESHOLDS)
    atexit.register(gc.freeze)  # at its end Python collects what is not frozen
