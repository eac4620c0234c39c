"""Keep the heap of a server from growing: few arenas, little garbage, and what is free goes back."""

import asyncio
import ctypes
import gc
import os
from contextlib import suppress

# Arenas of glibc: memory that was freed in one is not used by threads of another, and by default there may be
# 8 for each core. With 2, server and replica grew a third as much (docs/how-to/serve.md).
_ARENAS, _ARENA_MAX = 2, -8  # how many, and the number of this option in mallopt
_TRIM_EVERY = 30.0  # seconds
_THRESHOLDS = (700, 10, 10)  # of Python 3.11; the command's own (`bisieve.cli.process`) are much larger


def limit_arenas() -> None:
    """Limit the arenas of this process and of those that it starts."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        os.environ["MALLOC_ARENA_MAX"] = str(_ARENAS)  # glibc reads it when a process starts
        _glibc("mallopt", _ARENA_MAX, _ARENAS)


def collect_garbage_often() -> None:
    """Collect garbage as Python does by default, but leave out what there is now, which stays.

    A command collects seldom, as it ends soon. A server would keep its garbage for hours.
    """
    gc.freeze()
    gc.collect()  # counts what is old: Python looks for garbage there whenever a quarter of it is new
    gc.set_threshold(*_THRESHOLDS)


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
