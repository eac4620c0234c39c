"""The source is read from a folder ``name=value`` where a record has no such field."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisieve.io.storage import FileInfo
from bisieve.io.urls import partition_value
from bisieve.records.options import KnownShards, ReadOptions
from bisieve.scan import scan_rollout_split, scan_step_split
from bisieve.scan.batches import ScanOptions
from bisieve.scan.reuse import read_again
from bisieve.shards.listing import Split, merged_stems
from bisieve.tools.plain_records import plain_lines

READING = ReadOptions(source_field="source")
STEPS = [{"step": "one", "score": 1.0}]
ROLLOUT = {"rollout_id": "r", "image": "a.png", "question": "What?", "steps_with_score": STEPS}
STEP = {"rollout_id": "r", "step_index": 0, "image": "a.png", "question": "What?", **STEPS[0]}


def scan(path: Path, layout: str) -> list[dict[str, Any]]:
    scan_split = scan_rollout_split if layout == "rollouts" else scan_step_split
    batches = scan_split(Split(str(path), 0, 10**9), ScanOptions(0.05, reading=READING))
    return [row for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize(("layout", "record"), [("rollouts", ROLLOUT), ("steps", STEP)])
def test_lines_and_rows_without_the_field_have_the_source_of_their_path(
    write_jsonl: Callable[..., Path], tmp_path: Path, layout: str, record: dict[str, Any]
) -> None:
    lines = write_jsonl("source=g%C3%A9o%201/part-0.jsonl", [record])
    rows = tmp_path / "source=alg/part-0.parquet"
    rows.parent.mkdir()
    pq.write_table(pa.Table.from_pylist([record]), rows)
    assert [row["source"] for row in scan(lines, layout)] == ["géo 1"]
    assert [row["source"] for row in scan(rows, layout)] == ["alg"]


@pytest.mark.parametrize(("layout", "record"), [("rollouts", ROLLOUT), ("steps", STEP)])
@pytest.mark.parametrize("bad", [[], [b"broken"]], ids=["by column", "record by record"])
def test_a_records_own_source_wins_over_its_path(
    write_jsonl: Callable[..., Path], layout: str, record: dict[str, Any], bad: list[bytes]
) -> None:
    other = {**record, "rollout_id": "o", "source": "own"}
    found = scan(write_jsonl("source=geo/a.jsonl", [record, other, *bad]), layout)
    assert {row["rollout_id"]: row["source"] for row in found if row["reason"] is None} == {
        "r": "geo", "o": "own",
    }  # fmt: skip
    assert [row["source"] for row in found if row["reason"]] == ["geo"] * len(bad)


def test_a_record_is_not_refused_for_a_source_that_its_path_names(write_jsonl: Callable[..., Path]) -> None:
    (row,) = scan(write_jsonl("source=geo/a.jsonl", [{**ROLLOUT, "image": 5}]), "rollouts")
    assert (row["source"], row["reason"]) == ("geo", "no_image")


def test_steps_that_are_read_again_have_the_source_of_their_path(write_jsonl: Callable[..., Path]) -> None:
    paths = [str(write_jsonl(f"source={name}/a.jsonl", [STEP])) for name in ("alg", "geo")]
    spans = [(path, 0, len(json.dumps(STEP))) for path in paths]
    found = [row for batch in read_again(spans, READING) for row in batch.to_pylist()]
    assert [row["source"] for row in found] == ["alg", "geo"]


def test_the_nearest_folder_counts_and_null_is_no_source() -> None:
    assert partition_value("s3://b/source=a/source=b/x.parquet", "source") == "b"
    assert partition_value("s3://b/source=__HIVE_DEFAULT_PARTITION__/x.parquet", "source") is None
    assert partition_value("s3://b/other=a/source=b.parquet", "source") is None
    assert partition_value("s3://b/source=a=b%2Fc/x.parquet", "source") == "a=b/c"


def test_exported_lines_have_the_source_of_their_path_as_a_field(write_jsonl: Callable[..., Path]) -> None:
    path = str(write_jsonl("source=geo/a.jsonl", [ROLLOUT]))
    span = {"shard": path, "offset": 0, "length": len(json.dumps(ROLLOUT))}
    rows = pa.table({"rollout_id": ["r"], "spans": [[span]]})
    (line,) = plain_lines(rows, KnownShards(READING, {path: "rollouts"}))
    assert json.loads(line) == {**ROLLOUT, "source": "geo"}


def test_names_that_occur_in_several_folders_are_found() -> None:
    urls = ["file:///c/a/part-0.jsonl", "file:///c/b/part-0.parquet", "file:///c/b/one.jsonl"]
    assert merged_stems([FileInfo(url, 1, "") for url in urls]) == ["part-0"]
