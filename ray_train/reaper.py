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
    """Wait for the end of standard input, then kill all processes with ``marker`` in their environment."""
    sys.stdin.buffer.read()
    begun = seen = time.monotonic()
    while time.monotonic() < min(seen + _QUIET, begun + _PATIENCE):
        for process in marked(marker):
            seen = time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def marked(marker: str) -> list[int]:
    """Return the processes of this machine that were started with ``marker`` (``NAME=VALUE``)."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    started_with = file.read().split(b"\0")
            except OSError:  # another user's, or gone
                continue
            if marker.encode() in started_with:
                found.append(int(name))
    return found


if __name__ == "__main__":
    main(sys.argv[1])
