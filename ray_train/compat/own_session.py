"""Keep signals from Ray: start its processes in sessions of their own and undo its signal handlers.

Slurm's scancel, systemd and a terminal's Ctrl-C signal a whole process group. If Ray's processes were in the
driver's group, they would end at once, before the driver could save the run. In sessions of their own they no
longer get these signals, so a reaper process (`reaper`) ends them when the driver ends, however it ends.
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
    """Tells the reaper which processes must end with this one: those with a marker or of a session."""

    marker: str  # NAME=VALUE, in the environment of each process that is started
    sessions: (
        IO[bytes] | None
    )  # pipe to the reaper, which reads session ids, one per line; None without a reaper

    def add(self, session: int) -> None:
        """Have Ray's processes of ``session`` ended, too.

        A process that sets its own title may overwrite the marker in its environment.
        """
        if self.sessions is not None:
            with suppress(BrokenPipeError):  # the reaper was killed
                self.sessions.write(b"%d\n" % session)
                self.sessions.flush()


@contextmanager
def start_reaper() -> Iterator[Watch]:
    """Start the reaper and yield its `Watch`; the reaper ends the watched processes when the block ends.

    It also ends them if this process is killed. Without ``/proc`` there is no reaper, and nothing is ended.

    Ray's servers end with the driver anyway, since Ray asks the kernel to kill them. But its agents look for
    their raylet only once they have started, which takes minutes on a busy machine.
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
    """Make `ray.init` in this block start Ray's processes in sessions of their own, and watch these.

    Replaces the private `ConsolePopen`, with which Ray 2.60 starts its processes; Ray has no option for it.
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
    """Restore the handlers of SIGTERM and SIGINT after the block, since `ray.init` sets its own.

    A SIGTERM during the block reaches the restored handler, but only once Ray's core lets Python run: not
    while it waits for a raylet to start, which takes a second, or half a minute on a crowded machine. Outside
    the main thread this does nothing.

    Replaces the private `connect` of Ray 2.60, in which its core sets a handler in C++ that prints a stack
    and aborts the process: SIGTERM waits from there to the end of the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    from ray._private import worker

    connect = worker.connect

    def connect_undisturbed(*args: Any, **kwargs: Any) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        connect(*args, **kwargs)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    terminated = False
    worker.connect = connect_undisturbed
    try:
        yield
    except SystemExit as error:
        terminated = error.code == signal.SIGTERM  # Ray's handler raises this
        if not terminated:
            raise
    finally:
        worker.connect = connect
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    if terminated:
        signal.raise_signal(signal.SIGTERM)
