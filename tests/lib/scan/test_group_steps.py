from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bisieve.ranking.sort import Order, sorted_indices
from bisieve.records.options import ReadOptions
from bisieve.scan.batches import ScanOptions
from bisieve.scan.group_steps import assemble
from bisieve.scan.steps import scan_steps
from bisieve.scoring import balanced_information_score
from bisieve.shards.listing import Split

ORDER: Order = tuple((name, "ascending") for name in ("rollout_id", "step_index", "shard", "offset"))


@pytest.fixture
def scan(write_jsonl: Callable[..., Path]) -> Callable[..., list[dict[str, Any]]]:
    """Scans shards of steps as Spark would, without Spark; gives the rollouts and rejects."""

    def run(
        shards: dict[str, list[Any]], batch_size: int = 3, source_field: str | None = None
    ) -> list[dict[str, Any]]:
        options = ScanOptions(0.05, reading=ReadOptions(source_field=source_field))
        batches = []
        for name, records in shards.items():
            path = write_jsonl(f"{name}.jsonl", records)
            batches += scan_steps(Split(str(path), 0, path.stat().st_size), options)
        steps = pa.Table.from_batches(batches)
        homeless = steps.filter(steps["rollout_id"].is_null()).to_pylist()
        named = steps.filter(steps["rollout_id"].is_valid())
        steps = named.take(sorted_indices(named, ORDER)).combine_chunks()
        rollouts = [
            row for batch in assemble(steps.to_batches(batch_size), options) for row in batch.to_pylist()
        ]
        return rollouts + homeless

    return run


def step(rollout_id: str, index: int, score: float | None = 1.0, **fields: Any) -> dict[str, Any]:
    head = {"image": "a.png", "question": "What?"} if index == 0 else {}
    return {"rollout_id": rollout_id, "step_index": index, "step": "text", "score": score, **head, **fields}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_scattered_steps_come_together_in_order(
    scan: Callable[..., list[dict[str, Any]]], batch_size: int
) -> None:
    shards = {
        "one": [step("a", 2, 0.0), step("b", 0, 0.25), step("a", 0, 0.5)],
        "two": [step("b", 1, 1.0), step("c", 0, 0.0), step("a", 1, 1.0)],
    }
    found = {row["rollout_id"]: row for row in scan(shards, batch_size)}
    assert {name: row["scores"] for name, row in found.items()} == {
        "a": [0.5, 1.0, 0.0],
        "b": [0.25, 1.0],
        "c": [0.0],
    }
    assert {name: row["source"] for name, row in found.items()} == {"a": "one", "b": "one", "c": "two"}
    assert [Path(span["shard"]).stem for span in found["a"]["spans"]] == ["one", "two", "one"]
    assert found["a"]["bis"] == balanced_information_score([0.5, 1.0, 0.0])


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([step("a", 0), step("a", 1), step("a", 1)], "duplicate_step"),
        ([step("a", 0), step("a", 2)], "missing_step"),
        ([step("a", 1), step("a", 2)], "missing_step"),
        ([step("a", 0), step("a", 1, image="b.png")], "conflicting_rollout"),
        ([step("a", 0), step("a", 1, question="Which?")], "conflicting_rollout"),
        ([step("a", 0), step("a", 1, image="a.png", question="What?")], None),
        ([step("a", 0, image=None), step("a", 1)], "no_image"),
        ([step("a", 0, image=["b.png", ""]), step("a", 1)], "no_image"),
        ([step("a", 0, question=" "), step("a", 1)], "no_question"),
        ([step("a", 0), step("a", 1, step=" ")], "empty_step"),
        ([step("a", 0), step("a", 1, None)], "bad_score"),
        ([step("a", 0), step("a", 1, "0.5")], "bad_score"),
        ([step("a", 0), step("a", 1, 1.5)], "bad_score"),
        ([step("a", 0), step("a", 1, None, num_mc_correct=0, num_mc_total=0)], "bad_score"),
        ([step("a", 0), step("a", 1, None, num_mc_correct=4, num_mc_total=16)], None),
        ([step("a", 0), step("a", 1, step="a <prm> b")], "marker_in_text"),
        ([step("a", 0), step("a", -1)], "bad_step_index"),
        ([step("a", 0), step("a", "1")], "bad_step_index"),
    ],
)
def test_a_bad_step_rejects_its_whole_rollout_once(
    scan: Callable[..., list[dict[str, Any]]], steps: list[Any], reason: str | None
) -> None:
    found = scan({"shard": [*steps, step("good", 0)]})
    assert {row["rollout_id"]: row["reason"] for row in found} == {"a": reason, "good": None}
    assert len(found) == 2


def test_records_that_name_no_rollout_are_rejected_alone(scan: Callable[..., list[dict[str, Any]]]) -> None:
    found = scan({"shard": [step("a", 0), b"broken", step("", 1), {"step_index": 0}]})
    assert [(row["rollout_id"], row["reason"]) for row in found] == [
        ("a", None),
        (None, "bad_json"),
        (None, "no_rollout_id"),
        (None, "no_rollout_id"),
    ]


def test_a_source_field_on_the_first_step_is_enough_and_a_second_opinion_a_conflict(
    scan: Callable[..., list[dict[str, Any]]],
) -> None:
    steps = [
        step("a", 0, set="X"),
        step("a", 1),
        step("b", 0, set="X"),
        step("b", 1, set="Y"),
        step("c", 0),
        step("c", 1, set="X"),
    ]
    found = {row["rollout_id"]: row for row in scan({"shard": steps}, source_field="set")}
    assert {name: row["reason"] for name, row in found.items()} == {
        "a": None,
        "b": "conflicting_rollout",
        "c": "no_source",
    }
    assert found["a"]["source"] == "X"


def test_counts_are_kept_when_every_step_has_them(scan: Callable[..., list[dict[str, Any]]]) -> None:
    counts = {"num_mc_correct": 8, "num_mc_total": 16}
    steps = [step("a", 0, **counts), step("a", 1, **counts), step("b", 0, **counts), step("b", 1)]
    found = {row["rollout_id"]: (row["mc_correct"], row["mc_total"]) for row in scan({"shard": steps})}
    assert found == {"a": ([8, 8], [16, 16]), "b": (None, None)}


def test_a_very_long_rollout_is_one_rollout(scan: Callable[..., list[dict[str, Any]]]) -> None:
    found = scan({"shard": [step("a", index) for index in range(20_000)]}, batch_size=1000)
    assert [(row["num_steps"], row["bis"]) for row in found] == [(20_000, 0.05)]
