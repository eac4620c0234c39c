"""The order in which an epoch visits the rows of a cut, and each rank's share of it.

Everything follows from (what was cut, seed, epoch) alone: not from the number of ranks, not from a library's
random stream, which may change between versions.  So 1, 2 or 64 ranks learn the same, and a run that
crashed goes on in the middle of an epoch.
"""

from heapq import heapreplace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

Rows: TypeAlias = npt.NDArray[np.int64]
Tokens: TypeAlias = npt.NDArray[np.integer[Any]]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def epoch_order(num_rows: int, *, fingerprint: str, seed: int, epoch: int) -> Rows:
    """A permutation of ``0 … num_rows - 1``, int64 ``[num_rows]``: the rows by a keyed hash of their number.

    ``fingerprint`` names the cut.  The hash is splitmix64, written out here, so that the order stays the
    same for ever; equal hashes, which 64 bits make unlikely, keep the row order.
    """
    key = xxhash.xxh3_64_intdigest(f"{fingerprint}\n{seed}\n{epoch}".encode())
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        state = mixed(np.arange(num_rows, dtype=np.uint64) * _GOLDEN ^ np.uint64(key))
    return np.argsort(mixed(state + np.uint64(key)), kind="stable").astype(np.int64)


def mixed(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """splitmix64 of each number: equal for equal ones, and else as good as random."""
    with np.errstate(over="ignore"):
        state = state + _GOLDEN
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


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


def rank_share(batch: Rows, prompts: Rows, rank: int, world_size: int, shared: Tokens, own: Tokens) -> Rows:
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
