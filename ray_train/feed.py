"""A rank's micro-batches, read and encoded ahead of the model in a thread of their own.

cut rows ──fetch_rollouts──▶ rollouts ──images, targets─▶ samples ──packs or rows──▶ batches
[share]                      [share]                      by prompt                  tensors
"""

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import torch

from bisieve.cut import Cut
from bisieve.errors import BisieveError
from bisieve.fetch import fetch_rollouts
from bisieve.images import load_image
from bisieve.records import Rollout
from ray_train.agreement import any_rank
from ray_train.encoding import Batch, Encoder, Sample
from ray_train.packing import Packer
from ray_train.plan import Plan
from ray_train.targets import Targets

_READERS = 8  # images read at the same time; stores answer slowly, but many at once


@dataclass(frozen=True)
class RankFeed:
    """Makes the micro-batches of one rank: packs, or with no packer rows."""

    cut: Cut
    plan: Plan
    encoder: Encoder
    packer: Packer | None
    image_root: str
    targets: Targets
    micro_batch: int  # rollouts a batch, without a packer
    rank: int
    world_size: int

    def batches(self, first_step: int) -> Iterator[Batch]:
        """All micro-batches from ``first_step`` to the end of the run, at least one a step."""
        with ThreadPoolExecutor(_READERS) as readers:
            for step in range(first_step, self.plan.total_steps):
                share = self.plan.share(step, self.rank, self.world_size)
                rollouts = fetch_rollouts(self.cut.rows.take(pa.array(share)), self.cut.shards)
                prompts: dict[Any, list[tuple[int, Rollout]]] = {}
                for row, rollout in zip(share.tolist(), rollouts, strict=True):
                    prompts.setdefault((rollout.images, rollout.question), []).append((row, rollout))
                yield from _last_marked(self._encoded(readers.map(self._samples, prompts.values())))

    def filler(self) -> Batch:
        """What a rank puts through the model when it has nothing left and others have."""
        return next(_last_marked(self._encoded(iter([]))))

    def _encoded(self, prompts: Iterator[list[Sample]]) -> Iterator[Batch]:
        if self.packer is not None:
            yield from self.packer.packs(prompts)
            return
        samples = chain.from_iterable(prompts)
        yield self.encoder.encode(list(islice(samples, self.micro_batch)))
        while part := list(islice(samples, self.micro_batch)):
            yield self.encoder.encode(part)

    def _samples(self, rollouts: list[tuple[int, Rollout]]) -> list[Sample]:
        """Rollouts of one prompt, whose images are read once."""
        first = rollouts[0][1]
        images = [load_image(self.image_root, name) for name in first.images]
        return [
            Sample(row, images, rollout.question, rollout.steps, *self.targets.of(row))
            for row, rollout in rollouts
        ]


def _last_marked(batches: Iterator[Batch]) -> Iterator[Batch]:
    """``batches``, one at least, with the last one marked as such."""
    batch = next(batches)
    for following in batches:
        yield batch
        batch = following
    yield replace(batch, last=True)


class Prefetcher:
    """Hands out batches made ahead; after an error it goes on with fillers and keeps the error.

    A rank that stopped by itself would leave the others waiting in a collective: the loop asks all
    ranks for errors before each update, and then they stop together.
    """

    def __init__(self, batches: Iterator[Batch], filler: Batch, depth: int = 4) -> None:
        self.error: BisieveError | None = None
        self.waited = 0.0  # seconds that the model had nothing to do
        self._filler = filler
        self._ready: queue.Queue[Batch | BaseException | None] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(batches,), name="prefetch", daemon=True)
        self._thread.start()

    def step(self, device: torch.device) -> Iterator[tuple[Batch, bool]]:
        """The batches of one step, and whether a batch is the last one: equally many on all ranks."""
        batch = self.take()
        while True:
            is_last = not any_rank(not batch.last, device)
            yield batch, is_last
            if is_last:
                return
            batch = self._filler if batch.last else self.take()

    def _work(self, batches: Iterator[Batch]) -> None:
        try:
            for batch in batches:
                if not self._put(batch):
                    return
            self._put(None)
        except BaseException as error:  # whatever it is, it belongs to the thread that trains
            self._put(error)

    def _put(self, item: Batch | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def take(self) -> Batch:
        """The next batch, or a filler once something went wrong."""
        if self.error is not None:
            return self._filler
        started = time.perf_counter()
        item = self._ready.get()
        self.waited += time.perf_counter() - started
        if isinstance(item, BisieveError):
            self.error = item
            return self._filler
        if isinstance(item, BaseException):
            raise item
        if item is None:
            raise RuntimeError("more micro-batches were asked for than the plan has")
        return item

    def close(self) -> None:
        """Ends the thread; what it had made ready is dropped."""
        self._stopped.set()
        self._thread.join(timeout=30)
