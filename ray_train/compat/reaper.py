"""A process that outlives its starter by a moment, and ends what that has left; run by its path alone.

Its standard input is a pipe that the starter holds: the end of it is the starter's, however that ends.
"""

import os
import signal
import sys
import time
from contextlib import suppress

_PATIENCE = 10.0  # seconds; a process that was about to start another may be seen late
_QUIET = 0.5  # seconds without any


def main(marker: str) -> None:
    """Read session ids, a line each, to the end of standard input; then kill what is left of them."""
    sessions = {int(line) for line in sys.stdin.buffer.read().split()}
    begun = seen = time.monotonic()
    while time.monotonic() < min(seen + _QUIET, begun + _PATIENCE):
        for process in left(marker, sessions):
            seen = time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def left(marker: str, sessions: set[int]) -> list[int]:
    """Return the processes of this machine that have ``marker`` (``NAME=VALUE``), or one of ``sessions``.

    Of a session only those with a title of Ray's: its number may be a stranger's by now.
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
            except OSError:  # another user's, or gone
                continue
    return found


def _read(process: str, file: str) -> bytes:
    with open(f"/proc/{process}/{file}", "rb") as opened:
        return opened.read()


if __name__ == "__main__":
    main(sys.argv[1])
