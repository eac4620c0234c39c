"""Decide which rows each step and each rank trains on, and which are kept for validation.

Everything follows from (what was cut, seed, epoch) alone: not from the number of ranks, not from a library's
random stream, which may change between versions.  So 1, 2 or 64 ranks learn the same, and a run that
crashed goes on in the middle of an epoch.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from heapq import heapreplace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from bisieve._hash import _GOLDEN, splitmix64
from bisieve.errors import TrainingError
from bisieve.index.selection import Selection
from ray_train.data.token_estimate import TokenEstimate

Rows: TypeAlias = npt.NDArray[np.int64]
Tokens: TypeAlias = npt.NDArray[np.integer[Any]]


def epoch_permutation(num_rows: int, *, fingerprint: str, seed: int, epoch: int) -> Rows:
    """A permutation of ``0 … num_rows - 1``, int64 ``[num_rows]``: the rows by a keyed hash of their number.

    ``fingerprint`` names the selection.  The hash is splitmix64, written out here, so that the order stays
    the same for ever; equal hashes, which 64 bits make unlikely, keep the row order.
    """
    key = xxhash.xxh3_64_intdigest(f"{fingerprint}\n{seed}\n{epoch}".encode())
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        state = splitmix64(np.arange(num_rows, dtype=np.uint64) * _GOLDEN ^ np.uint64(key))
    return np.argsort(splitmix64(state + np.uint64(key)), kind="stable").astype(np.int64)


def num_batches(num_rows: int, batch_size: int) -> int:
    """How many global batches an epoch has; the last one may be smaller."""
    return -(-num_rows // batch_size)


def global_batch(order: Rows, index: int, batch_size: int) -> Rows:
    """The rows of global batch ``index`` of an epoch."""
    return order[index * batch_size : (index + 1) * batch_size]


def gathered(order: Rows, prompts: Rows) -> Rows:
    """``order`` with all rows of a prompt where its first one stood; int64 ``[len(order)]``.

    ``prompts`` numbers the prompt of every row there is: rollouts that share one can then be read as one.
    """
    _, first, inverse = np.unique(prompts[order], return_index=True, return_inverse=True)
    return order[np.argsort(first[inverse], kind="stable")]


def shard_for_rank(
    batch: Rows, prompts: Rows, rank: int, world_size: int, shared: Tokens, own: Tokens
) -> Rows:
    """Return the rows of a global batch that ``rank`` trains on; the shares of all ranks make up the batch.

    A prompt is never split.  The prompt with the most tokens is assigned first, each to the rank that has the
    fewest tokens so far; equal ones in the order of the batch, and to the lowest rank.

    Args:
        batch: int64 ``[rows]``.
        prompts: int64 ``[rows]``, the number of each row's prompt.
        rank: from 0 to ``world_size - 1``.
        world_size: number of ranks.
        shared: int ``[rows]``, tokens that the rows of a prompt have in common, counted once a prompt.
        own: int ``[rows]``, tokens of each row alone.
    """
    owners = _owners(prompts, world_size, shared, own)
    return batch[[owners[prompt] == rank for prompt in prompts.tolist()]]


def _owners(prompts: Rows, world_size: int, shared: Tokens, own: Tokens) -> dict[int, int]:
    """Return the rank of each prompt."""
    common: dict[int, int] = {}
    alone: dict[int, int] = {}
    for prompt, once, each in zip(prompts.tolist(), shared.tolist(), own.tolist(), strict=True):
        common[prompt] = max(once, common.get(prompt, 0))
        alone[prompt] = each + alone.get(prompt, 0)
    tokens = {prompt: common[prompt] + alone[prompt] for prompt in common}
    loads = [(0, rank) for rank in range(world_size)]  # a heap
    owners: dict[int, int] = {}
    for prompt in sorted(tokens, key=lambda prompt: -tokens[prompt]):  # stable
        load, owners[prompt] = loads[0]
        heapreplace(loads, (load + tokens[prompt], owners[prompt]))
    return owners


def order_fingerprint(order: Rows) -> str:
    """Names an order: equal orders, and in practice only those, have equal fingerprints."""
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(order, dtype="<i8").tobytes())


@dataclass(frozen=True)
class BatchPlan:
    """The batches of a run, from what was cut, the seed and the step alone."""

    selection_fingerprint: str  # names the rows
    num_rows: int  # rows in the selection
    left_out: tuple[int, ...]  # rows that are not trained on: their images are missing
    seed: int
    epochs: int
    global_batch: int  # rollouts a step
    prompts: Rows = field(compare=False)  # int64 [num_rows], the number of each row's prompt
    prompts_together: bool  # whether the rollouts of a prompt follow one another
    held_out: tuple[int, ...] = ()  # rows that are validated on, and never trained on
    drop_last: bool = False  # whether an epoch leaves out its last batch where it is smaller
    tokens: TokenEstimate | None = field(default=None, compare=False)  # None: every rollout counts the same

    @property
    def rows_per_epoch(self) -> int:
        return self.num_rows - len(self.left_out) - len(self.held_out)

    @property
    def steps_per_epoch(self) -> int:
        if self.drop_last:  # but not the only one
            return max(self.rows_per_epoch // self.global_batch, min(1, self.rows_per_epoch))
        return num_batches(self.rows_per_epoch, self.global_batch)

    @property
    def dropped_per_epoch(self) -> int:
        """How many rows each epoch leaves out, others in each, for they do not fill a batch."""
        return max(0, self.rows_per_epoch - self.steps_per_epoch * self.global_batch)

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    @cached_property
    def fingerprint(self) -> str:
        """Names the order of the first epoch, and so, with the seed, of all."""
        return order_fingerprint(_order(self, 0))

    def facts(self) -> dict[str, Any]:
        """What all ranks must have found alike, found anew where it is called: a pickled plan keeps none."""
        return {
            "number of steps": self.total_steps,
            "order of the rollouts": replace(self).fingerprint,
            "global batch": self.global_batch,
            "estimated tokens of the rollouts": self.tokens.fingerprint if self.tokens else "none",
        }

    def batch(self, step: int) -> Rows:
        """The rows of the global batch of ``step``, int64 ``[global_batch]``, fewer at an epoch's end."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return global_batch(_order(self, epoch), index, self.global_batch)

    def share(self, step: int, rank: int, world_size: int) -> Rows:
        """The rows of the global batch of ``step`` that ``rank`` trains on, int64, all of a prompt's."""
        batch = self.batch(step)
        tokens = self.tokens or TokenEstimate.equal(self.num_rows)
        return shard_for_rank(
            batch, self.prompts[batch], rank, world_size, tokens.shared[batch], tokens.own[batch]
        )


def prompts_of(selection: Selection) -> Rows:
    """The number of each row's prompt, int64 ``[rows]``."""
    codes = selection.rows["question_id"].combine_chunks().dictionary_encode().indices
    return np.asarray(codes, dtype=np.int64)


@lru_cache(maxsize=2)
def _order(plan: BatchPlan, epoch: int) -> Rows:
    order = epoch_permutation(
        plan.num_rows, fingerprint=plan.selection_fingerprint, seed=plan.seed, epoch=epoch
    )
    order = order[~np.isin(order, np.array(plan.left_out + plan.held_out, dtype=np.int64))]
    return gathered(order, plan.prompts) if plan.prompts_together else order


def validation_split(
    selection: Selection, fraction: float, seed: int, left_out: Collection[int]
) -> tuple[int, ...]:
    """The rows, not ``left_out``, of about ``fraction`` of the prompts; none where it is 0.

    A prompt is chosen by a hash of the seed and its ``question_id``: whatever else is in the selection, and
    whichever selection it is.  `TrainingError` where nothing is held out, or nothing is left to train on.
    """
    if fraction == 0:
        return ()
    questions = selection.rows["question_id"].combine_chunks().dictionary_encode()
    limit = int(fraction * 2**64)
    chosen = [
        xxhash.xxh3_64_intdigest(f"validation\n{seed}\n{question}".encode()) < limit
        for question in questions.dictionary.to_pylist()
    ]
    usable = np.ones(selection.rows.num_rows, np.bool_)
    usable[list(left_out)] = False
    held = np.array(chosen, np.bool_)[questions.indices.to_numpy()]
    rows = np.flatnonzero(held & usable)
    if len(rows) in (0, int(usable.sum())):
        raise TrainingError(
            f"prompts to train on, and {fraction:g} of them to hold out",
            f"{len(chosen)} in the selection, of which {sum(chosen)} would be held out",
            "give another --validation-fraction, or --seed",
        )
    return tuple(rows.tolist())
