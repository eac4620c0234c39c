"""The process that drives a run, described so that others can tell whether it is still there."""

import os
import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Driver:
    """One run of the command."""

    token: str  # tells it from all others
    host: str
    pid: int
    machine: str  # in which the pid counts: two machines, boots or containers differ; empty: unknown
    started: str  # when the process started, by that machine's own count
    renewed: int = 0  # times that it has said that it lives

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_driver() -> Driver:
    """This process."""
    return Driver(uuid.uuid4().hex, socket.gethostname(), os.getpid(), _machine(), _started(os.getpid()))


def is_dead(driver: Driver) -> bool:
    """Whether ``driver`` was a process of this machine and is no more; False where that cannot be told."""
    if not driver.machine or driver.machine != _machine():
        return False
    try:
        os.kill(driver.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's
        pass
    started = _started(driver.pid)
    return started != "" and started != driver.started


def _machine() -> str:
    """Names this machine since its last boot, and the container; empty where there is no ``/proc``."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _started(pid: int) -> str:
    """When a process started, in ticks since the boot, or that it ended; empty where that is not shown."""
    # Not psutil: it gives seconds since 1970, which move when the clock is set.
    with suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "ended" if state == "Z" else fields[18]
    return ""
