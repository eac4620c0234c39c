"""Signals belong to the driver: Ray's processes get a session of their own, and its handlers none.

Slurm's scancel, systemd and a terminal's Ctrl-C signal a whole process group.  Ray's processes in the same
group end at once, and with them the run that the driver is about to save.
"""

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def own_session() -> Iterator[None]:
    """Start the processes of a Ray that `ray.init` starts in this block in sessions of their own.

    Private: `ConsolePopen`, by which Ray 2.60 starts its processes; it has no option for a session.
    They still end with the driver, whatever kills it: the kernel kills Ray's servers when their parent dies
    (PR_SET_PDEATHSIG, which Ray sets), and its workers end when their raylet has gone.
    """
    from ray._private import services

    shared = services.ConsolePopen

    class OwnSession(shared):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            subprocess.Popen.__init__(self, *args, **{**kwargs, "start_new_session": True})

    services.ConsolePopen = OwnSession  # type: ignore[misc]
    try:
        yield
    finally:
        services.ConsolePopen = shared  # type: ignore[misc]


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Put the handlers of SIGTERM and SIGINT back that were set before the block; `ray.init` sets its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
