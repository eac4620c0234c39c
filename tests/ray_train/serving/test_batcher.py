"""What waits together is carried out together, in order, and never more than one batch at a time."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from ray_train.serving.batcher import Batcher


class Work:
    """Doubles numbers, and waits while `held`."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.free = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        self.free.wait(60)
        if 13 in items:
            raise ValueError("13")
        return [2 * item for item in items]


def test_what_arrives_while_a_batch_runs_is_the_next_batch() -> None:
    work = Work()

    async def ask() -> list[int]:
        batched = Batcher(work, lambda item: 1, most=4)
        calls = [asyncio.ensure_future(batched(0))]
        await asyncio.sleep(0.05)  # the first batch has begun, with what there was
        calls += [asyncio.ensure_future(batched(item)) for item in range(1, 7)]
        await asyncio.sleep(0)
        work.free.set()
        return await asyncio.gather(*calls)

    assert asyncio.run(ask()) == [2 * item for item in range(7)]
    assert work.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert len(work.threads) == 1


def test_sizes_count_and_an_item_above_the_limit_is_alone() -> None:
    work = Work()
    work.free.set()

    async def ask() -> list[int]:
        batched = Batcher(work, lambda item: item, most=4)
        return await asyncio.gather(*(batched(item) for item in (9, 1, 2, 2, 3)))

    assert asyncio.run(ask()) == [18, 2, 4, 4, 6]
    assert work.batches == [[9], [1, 2], [2], [3]]


def test_an_error_is_that_of_its_batch_alone_and_who_has_gone_is_left_out() -> None:
    work = Work()

    async def ask() -> int:
        batched = Batcher(work, lambda item: 1, most=1)
        failing, gone, last = (asyncio.ensure_future(batched(item)) for item in (13, 1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        work.free.set()
        with pytest.raises(ValueError, match="13"):
            await failing
        return await last

    assert asyncio.run(ask()) == 4
    assert work.batches == [[13], [2]]
