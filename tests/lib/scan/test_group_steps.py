"""Steps of a rollout come together in bounded memory, whatever their number, and are checked as a whole."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bisieve import schemas
from bisieve.ranking.sort import Order, constant_column, from_bytes, sorted_indices, to_bytes
from bisieve.records.options import ReadOptions
from bisieve.scan import group_steps
from bisieve.scan.batches import ScanOptions
from bisieve.scan.group_steps import assemble, gathered, parted_by_rollout
from bisieve.scan.steps import scan_steps
from bisieve.scoring import balanced_information_score
from bisieve.shards.listing import Split

MEGABYTES = 600  # of a Spark worker, all in all

MEASURED = """
import re, sys
from bisieve.scan.group_steps import assemble_unsorted, gathered
from bisieve.scan.batches import ScanOptions

def pieces():
    with open(sys.argv[1], "rb") as file:
        while size := file.read(8):
            yield file.read(int.from_bytes(size, "little"))

options = ScanOptions(0.05)
found = sum(batch.num_rows for table in gathered(pieces()) for batch in assemble_unsorted(table, options))
print(found, int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def steps(rollouts: int, each: int, longest: int = 0) -> pa.Table:
    """Steps of usable rollouts in random order; the last rollout may be a long one."""
    counts = np.full(rollouts, each)
    counts[-1] = max(each, longest)
    owner = np.repeat(np.arange(rollouts), counts)
    index = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    names = pa.array([f"rollout {number:09}" for number in range(rollouts)])
    shuffled = np.random.default_rng(1).permutation(len(owner))
    rows = len(owner)
    table = pa.table(
        {
            "rollout_id": names.take(pa.array(owner)),
            "step_index": pa.array(index, pa.int32()),
            "source": constant_column("a", rows),
            "image_id": np.ones(rows, np.int64),
            "prompt_id": np.ones(rows, np.int64),
            "question_id": pa.repeat("0" * 32, rows),
            "score": np.ones(rows),
            "mc_correct": pa.nulls(rows, pa.int32()),
            "mc_total": pa.nulls(rows, pa.int32()),
            "shard": constant_column("s3://bucket/a/folder/of/annotations/shard-00000.jsonl", rows),
            "offset": np.cumsum(np.random.default_rng(2).integers(100, 500, rows)),
            "length": np.full(rows, 299),
            "reason": pa.nulls(rows, pa.string()),
        },
        schema=schemas.STEPS,
    )
    return table.take(pa.array(shuffled))


def in_pieces(table: pa.Table, number: int) -> list[bytes]:
    size = -(-table.num_rows // number)
    return [to_bytes(table.slice(start, size).combine_chunks()) for start in range(0, table.num_rows, size)]


@pytest.mark.parametrize("held", [2**40, 20_000])
def test_all_steps_of_a_rollout_come_in_one_table(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_steps, "HELD_BYTES", held)
    everything = steps(rollouts=800, each=5, longest=300).combine_chunks().to_batches()
    table = from_bytes(dict(parted_by_rollout(everything, 4))[3])  # what a partition is
    tables = list(gathered(in_pieces(table, 7)))
    assert len(tables) == 1 if held == 2**40 else len(tables) > group_steps.FILES / 2
    names = [set(pc.unique(some["rollout_id"]).to_pylist()) for some in tables]
    assert sum(map(len, names)) == len(set().union(*names)) == pc.count_distinct(table["rollout_id"]).as_py()
    whole = pa.concat_tables(tables).sort_by([("offset", "ascending")])
    assert whole.to_pydict() == table.sort_by([("offset", "ascending")]).to_pydict()


def test_records_that_name_no_rollout_are_spread_over_all_parts() -> None:
    nameless = steps(rollouts=100, each=10).set_column(0, "rollout_id", pa.nulls(1000, pa.string()))
    rows = dict(parted_by_rollout(nameless.combine_chunks().to_batches(), 4))
    assert sorted(rows) == [0, 1, 2, 3]


@pytest.mark.slow  # the partition is large
def test_a_large_partition_is_assembled_in_bounded_memory(tmp_path: Path) -> None:
    table = steps(rollouts=140_000, each=10, longest=100_000)
    with pa.OSFile(str(tmp_path / "steps"), "wb") as file:
        for piece in in_pieces(table, 100):
            file.write(len(piece).to_bytes(8, "little") + piece)
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "steps")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found, megabytes = map(int, done.stdout.split())
    assert found == 140_000
    assert table.nbytes > 3 * group_steps.HELD_BYTES
    assert megabytes < MEGABYTES, megabytes


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
