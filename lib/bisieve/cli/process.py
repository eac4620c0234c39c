"""What a command asks of its process: standard streams, a working directory, signals, garbage collection."""

import atexit
import errno
import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from bisieve.errors import DiskError, UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def open_closed_streams() -> None:
    """Open the standard streams that the process was started without, as by ``>&-``, on ``/dev/null``.

    Each gets the lowest free descriptor, which is its own. Otherwise the next file that is opened would get
    it, and output meant for stdout or stderr would be written into that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def escape_unencodable() -> None:
    """Let stdout write the characters that its encoding lacks, such as that of a Latin-1 locale, as escapes.

    Python does so for stderr. Otherwise text of a corpus, or an arrow, would end the command.
    """
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper) and (stream.errors == "strict" or not is_utf8(stream)):
        stream.reconfigure(errors="backslashreplace")


def is_utf8(stream: TextIO) -> bool:
    """Return whether a stream has all characters."""
    return (stream.encoding or "utf8").lower().replace("-", "") == "utf8"  # none: it is in memory


def discard_stdout() -> None:
    """Discard what is still buffered for stdout: Python would report the failed write again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def full_disk(error: OSError) -> DiskError | None:
    """Return the `DiskError` for an error of a full disk that names no file, else None.

    bisieve's own files are named in their errors (`bisieve.io.errors`), so this one is of stdout or of a
    library's temporary file.
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


_THRESHOLDS = (100_000, 20, 20)  # by default 700 (2,000 from Python 3.12 on), 10, 10


def collect_seldom() -> None:
    """Collect garbage less often in this process, and none at its end.

    Importing torch, transformers and Ray makes half a million objects, none of them garbage. The collector
    would look through them again and again while they are made, and twice when the process ends. That is 1.5
    of the 5 CPU seconds that imports and end of a training take.
    """
    gc.set_threshold(*_THRESHOLDS)
    atexit.register(gc.freeze)  # at its end Python collects what is not frozen
