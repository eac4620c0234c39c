"""A process that outlives its starter briefly and kills the processes that the starter has left behind.

It is run as a script, by its path, and imports only the standard library. Its standard input is a pipe from
the starter, so end of file tells that the starter has ended, however it ended.
"""

import os
import signal
import sys
import time
from contextlib import suppress

_PATIENCE = 10.0  # most seconds in all; a process that is just being started may appear late
_QUIET = 0.5  # seconds in which no such process was seen, after which the reaper ends


def main(marker: str) -> None:
    """Read session ids, one per line, to the end of standard input; then kill the processes that are left."""
    sessions = {int(line) for line in sys.stdin.buffer.read().split()}
    begun = seen = time.monotonic()
    while time.monotonic() < min(seen + _QUIET, begun + _PATIENCE):
        for process in left(marker, sessions):
            seen = time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def left(marker: str, sessions: set[int]) -> list[int]:
    """Return the ids of processes that have the marker in their environment or belong to a session.

    Args:
        marker: ``NAME=VALUE``.
        sessions: Session ids. Only processes with a title of Ray's (``ray::``) count, since the kernel may
            have given the id to another session meanwhile.
    """
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if marker.encode() in _read(name, "environ") or (
                    int(_read(name, "stat").rpartition(b")")[2].split()[3]) in sessions
                    and _read(name, "cmdline").startswith(b"ray::")
                ):
                    found.append(int(name))
            except OSError:  # a process of another user, or one that has ended
                continue
    return found


def _read(process: str, file: str) -> bytes:
    with open(f"/proc/{process}/{file}", "rb") as opened:
        return opened.read()


if __name__ == "__main__":
    main(sys.argv[1])
