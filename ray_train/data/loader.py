"""A rank's micro-batches, read and encoded ahead of the model.

cut rows ──fetch_rollouts──▶ rollouts ──images, targets─▶ samples ──prepared──▶ tokens, pixels ──▶ batches
[share]      a thread        [prompt]     8 threads       [part]   processes    [part]    the queue's thread

A part is what is prepared at once: the samples of a prompt where packs are made, else those of a batch.
"""

import queue
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import pyarrow as pa
import torch

from bisieve.errors import BisieveError
from bisieve.index.selection import Selection
from bisieve.records.model import Rollout
from bisieve.shards.fetch import fetch_rollouts
from ray_train.data.encode import Encoder, Sample
from ray_train.data.image_cache import ImageReader
from ray_train.data.labels import Targets
from ray_train.data.packing import Packer, PromptTokens
from ray_train.data.prepare import Preparation
from ray_train.data.sampler import BatchPlan
from ray_train.data.workers import data_workers, threads
from ray_train.distributed.collectives import any_rank
from ray_train.model.batch import Batch

_READERS = 8  # images read at the same time; stores answer slowly, but many at once

Prompt = list[
    tuple[int, Rollout, float]
]  # of one prompt: each rollout's row of the selection, and its weight's factor
Part = tuple[bool, list[Sample]]  # whether it is the last of its step, and what is prepared at once
Prepared = tuple[bool, PromptTokens | Batch]


@dataclass(frozen=True)
class RankLoader:
    """Makes the micro-batches of one rank: packs, or with no packer rows."""

    selection: Selection
    plan: BatchPlan
    encoder: Encoder
    packer: Packer | None
    images: ImageReader
    targets: Targets
    micro_batch: int  # rollouts a batch, without a packer
    rank: int
    world_size: int
    data_workers: int = 0  # processes that prepare; 0: the thread of whoever asks
    skip_broken: bool = False  # leave out rollouts with a broken image, which the batch then names

    def batches(self, first_step: int) -> Generator[Batch, None, None]:
        """All micro-batches from ``first_step`` to the end of the run, at least one a step.

        `TrainingError` when a data worker is killed, and what fetching rollouts, reading and decoding images
        raise: behind all steps that come before, with any number of data workers.
        """
        steps = range(first_step, self.plan.total_steps)
        with (
            threads(1, self._prompts, ahead=2) as fetched,
            threads(_READERS, self._read, ahead=2 * _READERS) as read,
            data_workers(self.data_workers, self._preparation()) as prepared,
        ):
            parts = prepared(self._parts(read(chain.from_iterable(fetched(steps)))))
            for _ in steps:
                yield from _last_marked(self._joined(_of_step(parts)))

    def filler(self) -> Batch:
        """What a rank puts through the model when it has nothing left and others have."""
        return next(_last_marked(self._joined(iter([self._preparation()((True, []))[1]]))))

    def _preparation(self) -> Preparation:
        return Preparation(self.encoder, self.packer.reader if self.packer else None, self.skip_broken)

    def _prompts(self, step: int) -> list[tuple[bool, Prompt]]:
        """The rollouts of the rank's share of a step by prompt, one prompt at least, the last one marked."""
        share = self.plan.share(step, self.rank, self.world_size)
        factors = self.targets.factors(self.plan.batch(step))
        rollouts = fetch_rollouts(self.selection.rows.take(pa.array(share)), self.selection.shards)
        prompts: dict[Any, Prompt] = {}
        for row, rollout in zip(share.tolist(), rollouts, strict=True):
            prompts.setdefault((rollout.images, rollout.question), []).append((row, rollout, factors[row]))
        found = list(prompts.values()) or [[]]
        return [(number == len(found), prompt) for number, prompt in enumerate(found, start=1)]

    def _read(self, prompt: tuple[bool, Prompt]) -> Part:
        last, rollouts = prompt
        return last, self._samples(rollouts)

    def _parts(self, prompts: Iterable[Part]) -> Iterator[Part]:
        if self.packer is not None:
            yield from prompts
            return
        samples: list[Sample] = []
        for last, prompt in prompts:
            samples += prompt
            while len(samples) > self.micro_batch:
                yield False, samples[: self.micro_batch]
                del samples[: self.micro_batch]
            if last:
                yield True, samples
                samples = []

    def _joined(self, parts: Iterator[Any]) -> Iterator[Batch]:
        return self.packer.packed(parts) if self.packer is not None else parts

    def _samples(self, rollouts: Prompt) -> list[Sample]:
        """Rollouts of one prompt, whose images are read once."""
        images = [self.images.read(name) for name in rollouts[0][1].images] if rollouts else []
        return [
            Sample(
                row,
                images,
                rollout.question,
                rollout.steps,
                *self.targets.of(row, factor),
                name=rollout.rollout_id,
            )
            for row, rollout, factor in rollouts
        ]


def _of_step(parts: Iterator[Prepared]) -> Iterator[PromptTokens | Batch]:
    """The next parts up to the last one of a step."""
    for last, part in parts:
        yield part
        if last:
            return


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

    def __init__(self, batches: Generator[Batch, None, None], filler: Batch, depth: int = 4) -> None:
        self.error: BisieveError | None = None
        self.waited = 0.0  # seconds that `take` has waited for a batch so far
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

    def _work(self, batches: Generator[Batch, None, None]) -> None:
        try:
            with closing(batches):  # and with it threads and data workers
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
