"""Give a node of Ray more than half a minute to start: its agents import for that long on a busy machine."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 120.0  # seconds


@contextmanager
def patient_start(patience: float = PATIENCE) -> Iterator[None]:
    """Make a node of Ray that starts in this block wait up to ``patience`` seconds for its raylet.

    Replaces the private `get_node`, which Ray 2.60 asks for 30 seconds whether the raylet has registered; Ray
    has no option for it.
    """
    from ray._private import services

    shared: Any = services.get_node
    deadline = time.monotonic() + patience

    def get_node(*args: Any) -> Any:
        while True:
            try:
                return shared(*args)
            except RuntimeError:  # not registered yet
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    services.get_node = get_node
    try:
        yield
    finally:
        services.get_node = shared
