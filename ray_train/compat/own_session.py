"""Signals belong to the driver: Ray's processes get a session of their own, and its handlers none.

Slurm's scancel, systemd and a terminal's Ctrl-C signal a whole process group.  Ray's processes in the same
group end at once, and with them the run that the driver is about to save.  So they need an end of their own.
"""

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_MARKER = "BISIEVE_RAY_OF"


@dataclass(frozen=True)
class Watch:
    """What ends with this process, however that ends: what has a marker, and what is of its sessions."""

    marker: str  # NAME=VALUE, in the environment of each process that is started
    sessions: (
        IO[bytes] | None
    )  # lines of session ids, to the process that ends them; None where there is none

    def add(self, session: int) -> None:
        """End Ray's processes of ``session`` too: a title that one gives itself may overwrite its marker."""
        if self.sessions is not None:
            with suppress(BrokenPipeError):  # somebody has killed the reaper
                self.sessions.write(b"%d\n" % session)
                self.sessions.flush()


@contextmanager
def ended_with_us() -> Iterator[Watch]:
    """Yield a watch; what is started with its marker, or in its sessions, ends with this process.

    Ray's servers end with the driver by themselves (the kernel kills them, as Ray asks it to), but its agents
    look for their raylet only once they have started, which on a busy machine takes minutes.
    """
    marker = f"{_MARKER}={uuid.uuid4().hex}"
    if not os.path.isdir("/proc/self"):
        yield Watch(marker, None)
        return
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py")), marker]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as reaper:
        yield Watch(marker, reaper.stdin)


@contextmanager
def own_session(watch: Watch) -> Iterator[None]:
    """Start the processes of a Ray that `ray.init` starts in this block in sessions of their own, watched.

    Private: `ConsolePopen`, by which Ray 2.60 starts its processes; it has no option for a session.
    """
    from ray._private import services

    shared = services.ConsolePopen
    name, _, value = watch.marker.partition("=")

    class OwnSession(shared):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            env = {**(kwargs.get("env") or os.environ), name: value}
            subprocess.Popen.__init__(self, *args, **{**kwargs, "env": env, "start_new_session": True})
            watch.add(self.pid)

    services.ConsolePopen = OwnSession  # type: ignore[misc]
    try:
        yield
    finally:
        services.ConsolePopen = shared  # type: ignore[misc]


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Put the handlers of SIGTERM and SIGINT back that were set before the block; `ray.init` sets its own.

    A signal in the block is handled as before it, but only once Ray's core lets Python run: while it waits
    for a raylet to start, which takes a second and on a crowded machine half a minute, it does not.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    terminated = False
    try:
        yield
    except SystemExit as error:
        terminated = error.code == signal.SIGTERM  # what Ray's handler makes of it
        if not terminated:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if terminated:
        signal.raise_signal(signal.SIGTERM)
