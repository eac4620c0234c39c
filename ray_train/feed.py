"""A rank's micro-batches, read and encoded ahead of the model in a thread of their own.

cut rows ──fetch_rollouts──▶ rollouts ──images, labels──▶ samples ──encode──▶ batches
[share]                      [share]                      [micro]             tensors
"""

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from bisieve.cut import Cut
from bisieve.errors import BisieveError
from bisieve.fetch import fetch_rollouts
from bisieve.images import load_image
from bisieve.order import num_micro_batches, rank_share
from bisieve.records import Rollout
from ray_train.encoding import Batch, Encoder, Sample
from ray_train.plan import Plan

_READERS = 8  # images read at the same time; stores answer slowly, but many at once


@dataclass(frozen=True)
class RankFeed:
    """Makes the micro-batches of one rank."""

    cut: Cut
    plan: Plan
    encoder: Encoder
    image_root: str
    label_threshold: float
    micro_batch: int  # rollouts a batch
    rank: int
    world_size: int

    def passes(self, step: int) -> int:
        """Micro-batches of ``step``: the same number on every rank."""
        return num_micro_batches(len(self.plan.batch(step)), self.world_size, self.micro_batch)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """All micro-batches from ``first_step`` to the end of the run."""
        with ThreadPoolExecutor(_READERS) as readers:
            for step in range(first_step, self.plan.total_steps):
                share = rank_share(self.plan.batch(step), self.rank, self.world_size)
                rollouts = fetch_rollouts(self.cut.rows.take(pa.array(share)), self.cut.shards)
                for start in range(0, self.passes(step) * self.micro_batch, self.micro_batch):
                    part = slice(start, start + self.micro_batch)
                    samples = readers.map(self._sample, share[part].tolist(), rollouts[part])
                    yield self.encoder.encode(list(samples))

    def _sample(self, row: int, rollout: Rollout) -> Sample:
        images = [load_image(self.image_root, name) for name in rollout.images]
        labels = [float(score > self.label_threshold) for score in rollout.scores]
        return Sample(row, images, rollout.question, rollout.steps, labels)


class Prefetcher:
    """Hands out batches made ahead; after an error it goes on with fillers and keeps the error.

    A rank that stopped by itself would leave the others waiting in a collective: the loop asks all
    ranks for errors before each update, and then they stop together.
    """

    def __init__(self, batches: Iterator[Batch], encoder: Encoder, depth: int = 4) -> None:
        self.error: BisieveError | None = None
        self._filler = encoder.encode([])
        self._ready: queue.Queue[Batch | BaseException | None] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(batches,), name="prefetch", daemon=True)
        self._thread.start()

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
        item = self._ready.get()
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
