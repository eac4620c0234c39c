"""The heap of a server: what is free goes back to the system, and garbage is collected."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from ray_train.serving.heap import collect_garbage_often, trim_memory


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


class Request:
    """A request that refers to itself, as one does by an error whose frames hold it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collected_seldom() -> Iterator[None]:
    """Let this process collect garbage as a command does."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 20)
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_garbage_of_requests_does_not_remain(collected_seldom: None) -> None:
    collect_garbage_often()
    requests = [Request() for _ in range(1_000)]
    alive = weakref.WeakSet(requests)
    gc.collect(1)  # all of them are among the old objects now
    del requests
    answers = [[n] for n in range(200_000)]
    assert len(answers) == 200_000
    assert not alive
