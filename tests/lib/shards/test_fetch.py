from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bisieve.errors import IndexUnusableError, StorageError
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from bisieve.shards import fetch
from bisieve.shards.fetch import fetch_in_chunks, fetch_rollouts


def test_rollouts_come_with_their_text_in_the_order_of_the_rows(
    score: Callable[..., Any],
    write_jsonl: Callable[..., Path],
    rollout: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = [
        rollout([1.0, 0.0], image=["x.png", "y.png"], question="  shown ", question_orig=" asked\u2028 "),
        rollout([0.5], question=" asked too "),
    ]
    score(write_jsonl("a.jsonl", records), tmp_path / "index")
    selection = read_selection(open_index(str(tmp_path / "index")), 1.0)
    rows = selection.rows
    first, second = fetch_rollouts(rows, selection.shards)
    assert (first.question, first.image, first.images) == ("asked", ["x.png", "y.png"], ("x.png", "y.png"))
    assert (first.scores, first.mc_correct, first.mc_total) == ((1.0, 0.0), (16, 0), (16, 16))
    assert (second.question, second.image, second.images) == ("asked too", "a.png", ("a.png",))
    backwards = fetch_rollouts(rows.take([1, 0]), selection.shards)
    assert backwards == [second, first]
    monkeypatch.setattr(fetch, "_CHUNK", 1)
    assert list(fetch_in_chunks(rows, selection.shards)) == [[first], [second]]


def test_a_shard_with_other_text_at_a_span_is_refused(indexed: Path, tmp_path: Path) -> None:
    selection = read_selection(open_index(str(indexed)), 1.0)
    shard = tmp_path / "indexed.jsonl"
    shard.write_bytes(b" " + shard.read_bytes())
    with pytest.raises(IndexUnusableError, match="run bisieve score again"):
        fetch_rollouts(selection.rows, selection.shards)
    shard.unlink()
    with pytest.raises(StorageError, match="found nothing"):
        fetch_rollouts(selection.rows, selection.shards)
