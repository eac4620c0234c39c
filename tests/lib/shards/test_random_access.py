"""What fetching a selection through its spans takes from S3, counted on the wire."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from support.faulty_proxy import FaultyProxy

from bisieve.index.reader import open_index
from bisieve.index.selection import Selection, read_selection
from bisieve.io.storage import write_bytes
from bisieve.shards.fetch import REQUEST_BYTES, fetch_rollouts

ROLLOUTS = 300


@pytest.fixture
def tenth(
    score: Callable[..., Any], rollout: Callable[..., Any], s3: str, request: pytest.FixtureRequest
) -> Callable[[int], Selection]:
    """The best tenth, scattered over its shard, of rollouts of some size."""

    def selection(record_bytes: int) -> Selection:
        rng, place = random.Random(2), f"{s3}/{request.node.name}"
        records = [rollout([rng.random()], response="x" * record_bytes) for _ in range(ROLLOUTS)]
        write_bytes(f"{place}/a.jsonl", b"".join(json.dumps(record).encode() + b"\n" for record in records))
        score(f"{place}/a.jsonl", f"{place}/index")
        return read_selection(open_index(f"{place}/index"), 0.1)

    return selection


def taken(proxy: FaultyProxy, selection: Selection) -> tuple[int, int, int]:
    """Requests, bytes read, and bytes of the selection's records, of one fetch of a selection."""
    proxy.calm()
    assert len(fetch_rollouts(selection.rows, selection.shards)) == ROLLOUTS // 10
    assert all(passed.method == "GET" and passed.byte_range for passed in proxy.passed)
    wanted = sum(span["length"] for spans in selection.rows["spans"].to_pylist() for span in spans)
    return len(proxy.passed), sum(passed.sent for passed in proxy.passed), wanted


def test_a_tenth_of_large_records_takes_little_more_than_their_bytes(
    tenth: Callable[[int], Selection], faulty_s3: FaultyProxy
) -> None:
    requests, read, wanted = taken(faulty_s3, tenth(40_000))
    assert requests <= ROLLOUTS // 10
    assert read <= 1.5 * wanted


def test_a_tenth_of_small_records_takes_more_bytes_only_where_requests_would_cost_more(
    tenth: Callable[[int], Selection], faulty_s3: FaultyProxy
) -> None:
    requests, read, wanted = taken(faulty_s3, tenth(3_000))
    spared = ROLLOUTS // 10 - requests
    assert spared > 0
    assert read - wanted <= spared * REQUEST_BYTES
    one_by_one, everything = wanted + ROLLOUTS // 10 * REQUEST_BYTES, ROLLOUTS * wanted // (ROLLOUTS // 10)
    assert read + requests * REQUEST_BYTES < min(one_by_one, everything + REQUEST_BYTES)
