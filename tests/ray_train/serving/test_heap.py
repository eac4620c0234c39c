"""The heap of a server: what is free goes back to the system."""

import asyncio
from contextlib import suppress

import psutil
import pytest

from ray_train.serving.heap import trim_memory


def test_memory_that_is_free_but_in_pieces_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_train.serving.heap._TRIM_EVERY", 0.01)
    bodies = [bytes(4_000 + n % 1_000) for n in range(40_000)]
    kept = bodies[::100]  # between them, nothing is large enough for glibc to return by itself
    del bodies
    held = psutil.Process().memory_info().rss
    with suppress(TimeoutError):
        asyncio.run(asyncio.wait_for(trim_memory(), 1))
    assert len(kept) == 400
    assert psutil.Process().memory_info().rss < held - 100e6
