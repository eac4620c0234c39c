"""What becomes of stdin, stdout and stderr that are closed, full, or read by nobody any more."""

import errno
import os
import sys

from bisieve.errors import DiskError

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
