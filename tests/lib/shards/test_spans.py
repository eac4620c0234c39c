"""What lies at spans is held some at a time."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bisieve.io.read import read_ranges
from bisieve.records.options import KnownShards, ReadOptions
from bisieve.shards import fetch
from bisieve.shards.fetch import each_span


def test_many_spans_are_read_in_rounds_of_some_bytes_gaps_included(
    write_jsonl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [b"x" * (10 + number) for number in range(60)]
    shard = str(write_jsonl("a.jsonl", lines))
    starts = [sum(map(len, lines[:number])) + number for number in range(60)]
    wanted = [(shard, starts[number], len(lines[number])) for number in range(0, 60, 3)]
    rounds: list[int] = []

    def read(url: str, begins: list[int], ends: list[int]) -> list[bytes]:
        rounds.append(sum(ends) - sum(begins))
        return read_ranges(url, begins, ends)

    monkeypatch.setattr(fetch, "_TOGETHER", 500)
    monkeypatch.setattr(fetch, "read_ranges", read)
    found = each_span(wanted, KnownShards(ReadOptions(), {}))
    assert next(found) == (wanted[0], lines[0])
    assert len(rounds) == 1
    assert [line for _, line in found] == lines[3::3]
    assert len(rounds) >= 4
    assert max(rounds) <= 500 + 4 * max(map(len, lines))
