"""Memory of the processes of a server over time, and whether it grows."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import numpy as np
import psutil

MOST_GROWTH = 1.0  # MB a minute, over the last two thirds of the time; a kilobyte lost a request is more
EVERY = 5.0  # seconds
_NAMES = {"ray::ServeReplica": "replica", "ray::ServeController": "controller"}

Samples = dict[str, list[tuple[float, float]]]  # process -> seconds since the start, MB of RSS


@contextmanager
def watched(server: int) -> Iterator[Samples]:
    """Sample the process ``server`` (as "server"), its replicas and Ray Serve's controller."""
    samples: Samples = {}
    done, begun = threading.Event(), time.monotonic()

    def watch() -> None:
        while not done.wait(EVERY):
            for name, process in _processes(server):
                with suppress(psutil.Error):
                    size = process.memory_info().rss / 1e6
                    samples.setdefault(name, []).append((time.monotonic() - begun, size))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def _processes(server: int) -> Iterator[tuple[str, psutil.Process]]:
    process = psutil.Process(server)
    yield "server", process
    for child in process.children(recursive=True):
        with suppress(psutil.Error):
            title = " ".join(child.cmdline())
            for start, name in _NAMES.items():
                if title.startswith(start):
                    yield f"{name} {child.pid}", child


def growth(samples: Sequence[tuple[float, float]]) -> float:
    """MB a minute by which memory grows over the last two thirds of the time: a least-squares slope."""
    times, sizes = np.array(samples).T
    late = times >= times[0] + (times[-1] - times[0]) / 3
    return float(np.polyfit(times[late] / 60, sizes[late], 1)[0])


def growing(samples: Mapping[str, Sequence[tuple[float, float]]]) -> list[str]:
    """The processes whose memory grows by more than `MOST_GROWTH`."""
    return [name for name, each in samples.items() if growth(each) > MOST_GROWTH]
