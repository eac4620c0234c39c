"""Decide which rows each step and each rank trains on, and which are held out for validation.

    rows ──epoch_permutation──▶ epoch ──global_batch──▶ rows of a step ──shard_for_rank──▶ rows of a rank

`BatchPlan` combines these functions. The order depends on (selection, seed, epoch) only, not on the number
of ranks and not on a library's random generator, which may change between versions. So 1, 2 or 64 ranks
train on the same global batches, and a crashed run can resume in the middle of an epoch.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from heapq import heapreplace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from bisieve._hash import GOLDEN, splitmix64
from bisieve.errors import TrainingError
from bisieve.index.selection import Selection
from ray_train.data.token_estimate import TokenEstimate

Rows: TypeAlias = npt.NDArray[np.int64]
Tokens: TypeAlias = npt.NDArray[np.integer[Any]]


def epoch_permutation(num_rows: int, *, fingerprint: str, seed: int, epoch: int) -> Rows:
    """Return the order of an epoch: all row numbers, sorted by a keyed hash of each.

    The hash is bisieve's own SplitMix64, so the order never changes with a library's version. Rows with equal
    hashes (unlikely with 64 bits) keep their order.

    Args:
        num_rows: rows of the selection.
        fingerprint: of the selection; with ``seed`` and ``epoch`` it is the key of the hash.
        seed: of the run.
        epoch: from 0.

    Returns:
        int64 ``[num_rows]``, a permutation of ``0 … num_rows - 1``.
    """
    key = xxhash.xxh3_64_intdigest(f"{fingerprint}\n{seed}\n{epoch}".encode())
    with np.errstate(over="ignore"):  # overflow is intended: arithmetic modulo 2**64
        state = splitmix64(np.arange(num_rows, dtype=np.uint64) * GOLDEN ^ np.uint64(key))
    return np.argsort(splitmix64(state + np.uint64(key)), kind="stable").astype(np.int64)


def num_batches(num_rows: int, batch_size: int, drop_last: bool = False) -> int:
    """Return the number of global batches of an epoch, of which the last one may be smaller.

    Args:
        num_rows: Rows of the epoch.
        batch_size: Rows of a batch.
        drop_last: Do not count a smaller last batch, unless it is the only one.
    """
    if drop_last:
        return max(num_rows // batch_size, min(1, num_rows))
    return -(-num_rows // batch_size)


def global_batch(order: Rows, index: int, batch_size: int) -> Rows:
    """Return the rows of global batch ``index`` (from 0) of an epoch, int64 ``[up to batch_size]``."""
    return order[index * batch_size : (index + 1) * batch_size]


def group_by_prompt(order: Rows, prompts: Rows) -> Rows:
    """Reorder ``order`` so that all rows of a prompt follow its first row.

    Rollouts that share a prompt can then be packed together.

    Args:
        order: int64 ``[rows of the order]``, row numbers of the selection.
        prompts: int64 ``[rows of the selection]``, the number of each row's prompt.

    Returns:
        int64 ``[rows of the order]``.
    """
    _, first, inverse = np.unique(prompts[order], return_index=True, return_inverse=True)
    return order[np.argsort(first[inverse], kind="stable")]


def shard_for_rank(
    batch: Rows, prompts: Rows, rank: int, world_size: int, shared: Tokens, own: Tokens
) -> Rows:
    """Return the rows of a global batch that ``rank`` trains on.

    Each row goes to exactly one rank, and all rows of a prompt go to the same rank. Prompts are assigned in
    descending order of their tokens, each to the rank that has the fewest tokens so far. Ties: prompts in the
    order of the batch, ranks from the lowest.

    Args:
        batch: int64 ``[rows]``, row numbers of the selection.
        prompts: int64 ``[rows]``, the number of each row's prompt.
        rank: from 0 to ``world_size - 1``.
        world_size: number of ranks.
        shared: int ``[rows]``, tokens that all rows of a prompt share, counted once a prompt.
        own: int ``[rows]``, all other tokens of each row.

    Returns:
        int64 ``[rows of the rank]``, in the order of the batch; maybe empty.
    """
    owners = _owners(prompts, world_size, shared, own)
    return batch[[owners[prompt] == rank for prompt in prompts.tolist()]]


def _owners(prompts: Rows, world_size: int, shared: Tokens, own: Tokens) -> dict[int, int]:
    """Return the rank that each prompt is assigned to."""
    common: dict[int, int] = {}
    alone: dict[int, int] = {}
    for prompt, once, each in zip(prompts.tolist(), shared.tolist(), own.tolist(), strict=True):
        common[prompt] = max(once, common.get(prompt, 0))
        alone[prompt] = each + alone.get(prompt, 0)
    tokens = {prompt: common[prompt] + alone[prompt] for prompt in common}
    loads = [(0, rank) for rank in range(world_size)]  # a heap of (tokens, rank)
    owners: dict[int, int] = {}
    for prompt in sorted(tokens, key=lambda prompt: -tokens[prompt]):  # a stable sort
        load, owners[prompt] = loads[0]
        heapreplace(loads, (load + tokens[prompt], owners[prompt]))
    return owners


def order_fingerprint(order: Rows) -> str:
    """Return a hash of ``order``, 32 hex digits, the same on any machine."""
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(order, dtype="<i8").tobytes())


@dataclass(frozen=True)
class BatchPlan:
    """The global batches of a run; they depend on selection, options and seed, not on the ranks."""

    selection_fingerprint: str  # identifies the rows
    num_rows: int  # rows in the selection
    left_out: tuple[int, ...]  # rows that are skipped because their images are missing
    seed: int
    epochs: int
    global_batch: int  # rollouts per step, over all ranks
    prompts: Rows = field(compare=False)  # int64 [num_rows], the number of each row's prompt
    prompts_together: bool  # whether the rollouts of a prompt are consecutive
    held_out: tuple[int, ...] = ()  # rows for validation, never trained on
    drop_last: bool = False  # whether an epoch skips its last batch if that is incomplete
    tokens: TokenEstimate | None = field(default=None, compare=False)  # None: all rollouts count alike

    @property
    def rows_per_epoch(self) -> int:
        """Rows of an epoch: all but those left out or held out, before `drop_last` applies."""
        return self.num_rows - len(self.left_out) - len(self.held_out)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch, one for each global batch."""
        return num_batches(self.rows_per_epoch, self.global_batch, self.drop_last)

    @property
    def dropped_per_epoch(self) -> int:
        """Rows that `drop_last` removes from each epoch; which ones they are differs from epoch to epoch."""
        return max(0, self.rows_per_epoch - self.steps_per_epoch * self.global_batch)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.steps_per_epoch * self.epochs

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the order of the first epoch, which with the seed determines the order of all epochs."""
        return order_fingerprint(_order(self, 0))

    def facts(self) -> dict[str, Any]:
        """Return what must be equal on all ranks, by name.

        The order is recomputed on the calling rank (``replace`` drops the cached fingerprint), so that a rank
        whose libraries order the rows differently is detected.
        """
        return {
            "number of steps": self.total_steps,
            "order of the rollouts": replace(self).fingerprint,
            "global batch": self.global_batch,
            "estimated tokens of the rollouts": self.tokens.fingerprint if self.tokens else "none",
        }

    def batch(self, step: int) -> Rows:
        """Return the rows of the global batch of ``step`` (from 0, over all epochs).

        int64 ``[global_batch]``, fewer in the last batch of an epoch.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        return global_batch(_order(self, epoch), index, self.global_batch)

    def rows_for_rank(self, step: int, rank: int, world_size: int) -> Rows:
        """Return the rows that ``rank`` trains on in ``step``, int64 ``[rows of the rank]``.

        They are its share of the global batch: all rows of a prompt are on one rank, and ranks get about
        equal numbers of tokens (`shard_for_rank`).
        """
        batch = self.batch(step)
        tokens = self.tokens or TokenEstimate.equal(self.num_rows)
        return shard_for_rank(
            batch, self.prompts[batch], rank, world_size, tokens.shared[batch], tokens.own[batch]
        )


def prompts_of(selection: Selection) -> Rows:
    """Return the number of each row's prompt, int64 ``[rows]``: one number for each ``question_id``."""
    codes = selection.rows["question_id"].combine_chunks().dictionary_encode().indices
    return np.asarray(codes, dtype=np.int64)


@lru_cache(maxsize=2)
def _order(plan: BatchPlan, epoch: int) -> Rows:
    order = epoch_permutation(
        plan.num_rows, fingerprint=plan.selection_fingerprint, seed=plan.seed, epoch=epoch
    )
    order = order[~np.isin(order, np.array(plan.left_out + plan.held_out, dtype=np.int64))]
    return group_by_prompt(order, plan.prompts) if plan.prompts_together else order


def validation_split(
    selection: Selection, fraction: float, seed: int, left_out: Collection[int]
) -> tuple[int, ...]:
    """Return the rows to hold out for validation: those of about ``fraction`` of the prompts.

    A prompt is held out or not by a hash of the seed and its ``question_id`` alone, so the answer is the same
    in every selection.

    Args:
        selection: the selected rollouts.
        fraction: share of the prompts, in [0, 1).
        seed: of the run.
        left_out: rows that are not used at all.

    Returns:
        Row numbers in ascending order, none of them in ``left_out``; empty when ``fraction`` is 0.

    Raises:
        TrainingError: no row is held out, or no row is left to train on.
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
            f"{len(chosen):,} in the selection, of which {sum(chosen):,} would be held out",
            "give another --validation-fraction, or --seed",
        )
    return tuple(rows.tolist())
