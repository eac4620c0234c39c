"""Keep the heap of a server from growing, with glibc: few arenas, and free memory goes back to the system."""

import asyncio
import ctypes
import os
from contextlib import suppress

# Arenas of glibc: memory that was freed in one is not used by threads of another, and by default there may be
# 8 for each core. With 2, server and replica grew a third as much (docs/how-to/serve.md).
_ARENAS, _ARENA_MAX = 2, -8  # how many, and the number of this option in mallopt
_TRIM_EVERY = 30.0  # seconds


def limit_arenas() -> None:
    """Limit the arenas of this process and of those that it starts."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        os.environ["MALLOC_ARENA_MAX"] = str(_ARENAS)  # glibc reads it when a process starts
        _glibc("mallopt", _ARENA_MAX, _ARENAS)


async def trim_memory() -> None:
    """Return free memory to the system again and again.

    Bodies of many sizes leave it in pieces, which add up to more and more.
    """
    while True:
        await asyncio.sleep(_TRIM_EVERY)
        _glibc("malloc_trim", 0)  # takes milliseconds; the 0 keeps none back


def _glibc(function: str, *values: int) -> None:
    """Call a function of the C library; do nothing where there is none of this name."""
    with suppress(AttributeError, OSError):
        getattr(ctypes.CDLL(None), function)(*values)
