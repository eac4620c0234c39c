"""Load one rank's micro-batches ahead of the model: `RankLoader` makes them, `Prefetcher` queues them.

rows ──fetch_rollouts──▶ rollouts ──images, targets─▶ samples ──Preparation──▶ tokens, pixels ──▶ batches
[share]    1 thread      [prompt]     8 threads       [part]    processes      [part]     Prefetcher's thread

A part is what a data worker prepares in one call: the samples of one prompt with packing, else of one batch.
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
from ray_train.data.images import ImageReader
from ray_train.data.labels import Targets
from ray_train.data.packing import Packer, PromptMemory, PromptTokens
from ray_train.data.sampler import BatchPlan
from ray_train.data.workers import Preparation, data_workers, threads
from ray_train.distributed.collectives import any_rank
from ray_train.model.reward import Batch

_READERS = 8  # prompts whose images are read in parallel: object stores have high latency

Prompt = list[
    tuple[int, Rollout, float]
]  # rollouts of one prompt: row of the selection, rollout, factor of its weight
Part = tuple[bool, list[Sample]]  # whether it is the last part of its step, and the samples to prepare
Prepared = tuple[bool, PromptTokens | Batch]


@dataclass(frozen=True)
class RankLoader:
    """Loader of one rank's micro-batches: packs, or padded rows if ``packer`` is None."""

    selection: Selection
    plan: BatchPlan
    encoder: Encoder
    packer: Packer | None
    images: ImageReader
    targets: Targets
    micro_batch: int  # rollouts per micro-batch; used only without a packer
    rank: int
    world_size: int
    data_workers: int = 0  # processes that run `Preparation`; 0: it runs in the calling thread
    skip_broken: bool = False  # leave out rollouts with a broken image; `Batch.broken` names it
    memory: PromptMemory | None = None  # of earlier runs of this process; without data workers

    def batches(self, first_step: int) -> Generator[Batch, None, None]:
        """Yield all micro-batches from ``first_step`` to the end of the run.

        Each step has at least one micro-batch, and its last one has ``last`` set. An error is raised only
        after the micro-batches that come before it, with any number of data workers.

        Raises:
            TrainingError: a data worker was killed.
            BisieveError: a rollout cannot be fetched, or an image cannot be read or decoded.
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
        """Return a batch of weight 0, for a rank that has no micro-batch left while others do."""
        return next(_last_marked(self._joined(iter([self._preparation()((True, []))[1]]))))

    def _preparation(self) -> Preparation:
        memory = self.memory if self.data_workers == 0 else None
        reader = self.packer.reader if self.packer else None
        return Preparation(self.encoder, reader, self.skip_broken, memory)

    def _prompts(self, step: int) -> list[tuple[bool, Prompt]]:
        """Return the rank's rollouts of a step, grouped by prompt, each group with whether it is the last.

        At least one group, which may be empty.
        """
        share = self.plan.rows_for_rank(step, self.rank, self.world_size)
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
        """Return the samples of one prompt's rollouts; its images are read once and shared by all."""
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
    """Yield the following parts, up to and including the last one of a step."""
    for last, part in parts:
        yield part
        if last:
            return


def _last_marked(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield ``batches`` (at least one), the last one with ``last`` set."""
    batch = next(batches)
    for following in batches:
        yield batch
        batch = following
    yield replace(batch, last=True)


class Prefetcher:
    """A queue of batches that a thread fills ahead of the model.

    After a `BisieveError` it keeps the error in ``error`` and returns fillers: a rank that stopped alone
    would leave the others waiting in a collective. The training loop exchanges errors before each update, so
    that all ranks stop together.
    """

    def __init__(self, batches: Generator[Batch, None, None], filler: Batch, depth: int = 4) -> None:
        self.error: BisieveError | None = None
        self.waited = 0.0  # seconds that `take` has waited for batches, in total
        self._filler = filler
        self._ready: queue.Queue[Batch | BaseException | None] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(batches,), name="prefetch", daemon=True)
        self._thread.start()

    def step(self, device: torch.device) -> Iterator[tuple[Batch, bool]]:
        """Yield the batches of one step, each with whether it is the last one; a collective.

        All ranks get the same number of batches: a rank that has fewer gets fillers.
        """
        batch = self.take()
        while True:
            is_last = not any_rank(not batch.last, device)
            yield batch, is_last
            if is_last:
                return
            batch = self._filler if batch.last else self.take()

    def _work(self, batches: Generator[Batch, None, None]) -> None:
        try:
            with closing(batches):  # also ends its threads and data workers
                for batch in batches:
                    if not self._put(batch):
                        return
            self._put(None)
        except BaseException as error:  # of any kind: the training thread must get it
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
        """Return the next batch, waiting for it; a filler once ``error`` is set.

        Raises:
            RuntimeError: the plan has no more batches.
            BaseException: whatever the thread raised, if that is no `BisieveError`.
        """
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
        """Stop the thread, waiting up to 30 seconds, and drop the queued batches."""
        self._stopped.set()
        self._thread.join(timeout=30)
