from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bisieve.records.options import ReadOptions
from bisieve.scan.batches import ScanOptions
from bisieve.scan.rollouts import scan_rollouts
from bisieve.shards.listing import list_shards, split_shards


def scan(path: Path, split_bytes: int, **reading: Any) -> list[dict[str, Any]]:
    options = ScanOptions(0.05, reading=ReadOptions(**reading))
    splits = split_shards(list_shards([str(path)]), split_bytes)
    return [row for split in splits for batch in scan_rollouts(split, options) for row in batch.to_pylist()]


def test_a_line_of_5_mb_does_not_break_a_split(
    write_jsonl: Callable[..., Path], rollout: Callable[..., Any]
) -> None:
    records = [rollout([1.0], rollout_id=str(number)) for number in range(5)]
    records[2]["response"] = "x" * 5_000_000
    found = scan(write_jsonl("a.jsonl", records), split_bytes=2**20)
    assert [row["rollout_id"] for row in found] == list("01234")
    assert found[2]["length"] > 5_000_000


@pytest.mark.parametrize("broken", [False, True], ids=["by column", "record by record"])
def test_fields_have_the_names_they_are_said_to_have(
    write_jsonl: Callable[..., Path], rollout: Callable[..., Any], broken: bool
) -> None:
    steps = [{"text": "one", "value": 0.5, "k": 8, "n": 16}]
    theirs = {"img": "a.png", "prompt": "What?", "question": 5, "trace": steps, "id": "r"}
    fields = {
        "image": "img", "question": "prompt", "steps_with_score": "trace", "step": "text", "score": "value",
        "num_mc_correct": "k", "num_mc_total": "n", "rollout_id": "id",
    }  # fmt: skip
    bad = [{**theirs, "prompt": " "}, {**theirs, "trace": [{"step": "one", "score": 1.0}]}]
    found = scan(write_jsonl("a.jsonl", [theirs, *(bad if broken else [])]), 2**20, fields=fields)
    assert [row["reason"] for row in found] == [None, *(["no_question", "empty_step"] if broken else [])]
    row = found[0]
    assert (row["rollout_id"], row["scores"], row["mc_correct"], row["mc_total"]) == ("r", [0.5], [8], [16])
    (plain,) = scan(write_jsonl("b.jsonl", [rollout([1.0])]), 2**20)
    assert row["question_id"] == plain["question_id"]


def test_the_source_may_be_the_folder(write_jsonl: Callable[..., Path], rollout: Callable[..., Any]) -> None:
    found = scan(write_jsonl("ai2d/part-0.jsonl", [rollout(), b"broken"]), 2**20, source_from="folder")
    assert [row["source"] for row in found] == ["ai2d", "ai2d"]
