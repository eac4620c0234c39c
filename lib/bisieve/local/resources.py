"""The cores and memory this process may use, within the limits of its container, and its temporary folder."""

import os
from collections.abc import Sequence

from bisieve.io import tempdirs

WORKER_BYTES = 600 * 10**6  # most memory of a worker process
_CGROUP = "/sys/fs/cgroup"


def usable_workers() -> int:
    """Return the number of worker processes for which there are cores and memory; at least 1."""
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
    """Return ``TMPDIR``, or else Python's default folder.

    `tempfile.gettempdir` alone would silently use another folder if that of ``TMPDIR`` cannot be written.

    Raises:
        DiskError: ``TMPDIR`` is not set, and none of the places that Python tries is writable.
    """
    return os.environ.get("TMPDIR") or str(tempdirs.temporary_folder())


def _limit(name: str) -> Sequence[str]:
    """Return the words of a cgroup v2 limit file; () if there is none, as outside of a container."""
    try:
        with open(f"{_CGROUP}/{name}") as limit:
            return limit.read().split()
    except OSError:
        return ()
