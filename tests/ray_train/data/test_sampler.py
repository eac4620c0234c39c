"""The order of an epoch, and the ranks' shares of it."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_train.data.sampler import (
    Rows,
    epoch_permutation,
    global_batch,
    group_by_prompt,
    num_batches,
    order_fingerprint,
    shard_for_rank,
)

PINNED = [5, 1, 9, 0, 3, 2, 8, 7, 4, 6]
PINNED_THOUSAND = "bafb914ba4257786f6ab33c7a593be61"
KEYS = {"fingerprint": "a cut", "seed": 0, "epoch": 0}


@given(num_rows=st.integers(0, 2000), seed=st.integers(0, 2**63), epoch=st.integers(0, 100))
def test_an_epoch_visits_every_row_exactly_once(num_rows: int, seed: int, epoch: int) -> None:
    order = epoch_permutation(num_rows, fingerprint="a cut", seed=seed, epoch=epoch)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(num_rows))


def test_the_order_is_the_same_for_ever() -> None:
    assert epoch_permutation(10, **KEYS).tolist() == PINNED
    assert order_fingerprint(epoch_permutation(1000, **KEYS)) == PINNED_THOUSAND


@pytest.mark.parametrize("other", [{"fingerprint": "another cut"}, {"seed": 1}, {"epoch": 1}])
def test_another_selection_seed_or_epoch_has_another_order(other: dict[str, object]) -> None:
    assert epoch_permutation(100, **KEYS).tolist() != epoch_permutation(100, **{**KEYS, **other}).tolist()  # type: ignore[arg-type]


def test_early_rows_come_no_earlier_than_late_ones() -> None:
    place = np.empty(100_000)
    place[epoch_permutation(100_000, **KEYS)] = np.arange(100_000)
    assert abs(np.corrcoef(place, np.arange(100_000))[0, 1]) < 0.02
    assert abs(np.corrcoef(place[1:], place[:-1])[0, 1]) < 0.02


@given(num_rows=st.integers(1, 500), batch_size=st.integers(1, 64))
def test_the_global_batches_follow_one_another_through_the_order(num_rows: int, batch_size: int) -> None:
    order = epoch_permutation(num_rows, **KEYS)
    batches = [global_batch(order, i, batch_size) for i in range(num_batches(num_rows, batch_size))]
    assert np.concatenate(batches).tolist() == order.tolist()
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= batch_size


@given(prompts=st.lists(st.integers(0, 50), min_size=1, max_size=200), world_size=st.integers(1, 64))
def test_the_shares_of_any_number_of_ranks_make_up_the_batch_and_keep_prompts_whole(
    prompts: list[int], world_size: int
) -> None:
    batch, numbers = epoch_permutation(len(prompts), **KEYS), np.array(prompts)
    once, each = np.zeros(len(batch), int), np.ones(len(batch), int)
    shares = [shard_for_rank(batch, numbers[batch], r, world_size, once, each) for r in range(world_size)]
    assert sorted(np.concatenate(shares).tolist()) == sorted(batch.tolist())
    assert sum(len(set(numbers[share])) for share in shares) == len(set(prompts))
    largest_prompt = max(Counter(prompts).values())
    assert max(map(len, shares)) - min(map(len, shares)) <= largest_prompt


@given(
    rows=st.lists(st.tuples(*[st.integers(0, 2000)] * 3), min_size=1, max_size=100),
    world_size=st.integers(1, 64),
)
def test_whatever_tokens_ranks_are_balanced_by_every_row_has_one_rank(
    rows: list[tuple[int, int, int]], world_size: int
) -> None:
    batch, (prompts, shared, own) = np.arange(len(rows)), np.array(rows).T
    prompts = prompts % 20
    shares = [shard_for_rank(batch, prompts, rank, world_size, shared, own) for rank in range(world_size)]
    assert sorted(np.concatenate(shares).tolist()) == batch.tolist()


@given(prompts=st.lists(st.integers(0, 50), min_size=1, max_size=200))
def test_rows_of_a_prompt_can_be_brought_together(prompts: list[int]) -> None:
    order, numbers = epoch_permutation(len(prompts), **KEYS), np.array(prompts)
    together = group_by_prompt(order, numbers)
    assert sorted(together.tolist()) == sorted(order.tolist())
    seen = numbers[together].tolist()
    assert sum(a != b for a, b in pairwise(seen)) == len(set(prompts)) - 1
    assert list(dict.fromkeys(seen)) == list(dict.fromkeys(numbers[order].tolist()))
    distinct = np.arange(len(prompts))
    assert group_by_prompt(order, distinct).tolist() == order.tolist()


def rank_loads(prompts: Rows, world_size: int, shared: Rows, own: Rows) -> list[int]:
    """Return the tokens of each rank's share of a batch."""
    rows = np.arange(len(prompts))
    shares = [shard_for_rank(rows, prompts, rank, world_size, shared, own) for rank in range(world_size)]
    once = [{p: shared[prompts == p].max() for p in set(prompts[share])} for share in shares]
    return [int(own[share].sum() + sum(of.values())) for share, of in zip(shares, once, strict=True)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("world_size", "least"), [(8, 0.95), (64, 0.90)])
def test_ranks_are_busy_for_nearly_all_of_a_step(world_size: int, least: float, seed: int) -> None:
    """Batches of 512 rollouts, 1-3 a prompt, 1-7 tiles an image; a step takes as long as its fullest rank."""
    random = np.random.default_rng(seed)
    useful = spent = 0
    for _ in range(10):
        prompts = np.repeat(np.arange(512), random.integers(1, 4, 512))[:512]
        shared = (random.integers(1, 8, 512) * 256 + 100)[prompts]
        loads = rank_loads(prompts, world_size, shared, random.integers(150, 450, 512))
        useful, spent = useful + sum(loads), spent + world_size * max(loads)
    assert useful / spent >= least


def test_the_largest_prompt_is_assigned_first_and_its_shared_tokens_count_once() -> None:
    batch, prompts = np.array([5, 6, 7, 8]), np.array([0, 1, 1, 2])
    shared, own = np.array([1, 10, 10, 9]), np.array([1, 1, 1, 1])  # 2, 12 and 10 tokens
    shares = [shard_for_rank(batch, prompts, rank, 2, shared, own).tolist() for rank in range(2)]
    assert shares == [[6, 7], [5, 8]]
    assert rank_loads(prompts, 2, shared, own) == [12, 12]
