"""What this process may use of its machine: cores and memory, within its container's limits, and a folder."""

import os
import tempfile
from collections.abc import Sequence

WORKER_BYTES = 600 * 10**6  # the most that a worker process holds
_CGROUP = "/sys/fs/cgroup"


def usable_workers() -> int:
    """Return for how many worker processes there are cores and memory."""
    return max(1, min(usable_cores(), usable_memory() // WORKER_BYTES))


def usable_cores() -> int:
    """Return how many cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    match _limit("cpu.max"):
        case [quota, period] if quota != "max":
            return max(1, min(cores, -(-int(quota) // int(period))))
    return cores


def usable_memory() -> int:
    """Return how many bytes of memory this process and its children may hold."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    match _limit("memory.max"):
        case [most] if most != "max":
            return min(memory, int(most))
    return memory


def temporary_folder() -> str:
    """Return the folder that ``TMPDIR`` names, full or not: Python takes another one in silence."""
    return os.environ.get("TMPDIR") or tempfile.gettempdir()


def _limit(name: str) -> Sequence[str]:
    """Return the words of a limit of this process's container; none outside of one."""
    try:
        with open(f"{_CGROUP}/{name}") as limit:
            return limit.read().split()
    except OSError:
        return ()
