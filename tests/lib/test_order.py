"""The order of an epoch, and the ranks' shares of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisieve.order import (
    epoch_order,
    global_batch,
    num_batches,
    num_micro_batches,
    order_fingerprint,
    rank_share,
)

PINNED = [5, 1, 9, 0, 3, 2, 8, 7, 4, 6]
PINNED_THOUSAND = "bafb914ba4257786f6ab33c7a593be61"
KEYS = {"fingerprint": "a cut", "seed": 0, "epoch": 0}


@given(num_rows=st.integers(0, 2000), seed=st.integers(0, 2**63), epoch=st.integers(0, 100))
def test_an_epoch_visits_every_row_exactly_once(num_rows: int, seed: int, epoch: int) -> None:
    order = epoch_order(num_rows, fingerprint="a cut", seed=seed, epoch=epoch)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(num_rows))


def test_the_order_is_the_same_for_ever() -> None:
    assert epoch_order(10, **KEYS).tolist() == PINNED
    assert order_fingerprint(epoch_order(1000, **KEYS)) == PINNED_THOUSAND


@pytest.mark.parametrize("other", [{"fingerprint": "another cut"}, {"seed": 1}, {"epoch": 1}])
def test_another_cut_seed_or_epoch_has_another_order(other: dict[str, object]) -> None:
    assert epoch_order(100, **KEYS).tolist() != epoch_order(100, **{**KEYS, **other}).tolist()  # type: ignore[arg-type]


def test_early_rows_come_no_earlier_than_late_ones() -> None:
    place = np.empty(100_000)
    place[epoch_order(100_000, **KEYS)] = np.arange(100_000)
    assert abs(np.corrcoef(place, np.arange(100_000))[0, 1]) < 0.02
    assert abs(np.corrcoef(place[1:], place[:-1])[0, 1]) < 0.02


@given(num_rows=st.integers(1, 500), batch_size=st.integers(1, 64))
def test_the_global_batches_follow_one_another_through_the_order(num_rows: int, batch_size: int) -> None:
    order = epoch_order(num_rows, **KEYS)
    batches = [global_batch(order, i, batch_size) for i in range(num_batches(num_rows, batch_size))]
    assert np.concatenate(batches).tolist() == order.tolist()
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= batch_size


@given(num_rows=st.integers(1, 300), world_size=st.integers(1, 64), micro_batch=st.integers(1, 8))
def test_the_shares_of_any_number_of_ranks_make_up_the_same_batch(
    num_rows: int, world_size: int, micro_batch: int
) -> None:
    batch = epoch_order(num_rows, **KEYS)
    shares = [rank_share(batch, rank, world_size) for rank in range(world_size)]
    assert sorted(np.concatenate(shares).tolist()) == sorted(batch.tolist())
    passes = num_micro_batches(num_rows, world_size, micro_batch)
    assert max(map(len, shares)) <= passes * micro_batch
    assert max(map(len, shares)) > (passes - 1) * micro_batch
