"""What is read of a Parquet file: each row once, some at a time, and no column that nothing asks for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support import forms

from bisieve.records.options import ReadOptions
from bisieve.shards import parquet
from bisieve.shards.listing import Split

WHOLE = 10**12
GOOD = {"image": "a.png", "question": "What?", "steps_with_score": [{"step": "one", "score": 1.0}]}


@pytest.mark.parametrize("layout", ["rollouts", "steps"])
def test_every_row_belongs_to_exactly_one_split(tmp_path: Path, layout: str) -> None:
    rows = [{**GOOD, "rollout_id": str(number)} for number in range(95)]
    path = forms.write_form(
        tmp_path / "a", "nested.parquet" if layout == "rollouts" else "steps.parquet", rows, group=10
    )
    size = path.stat().st_size
    for part in (size // 7, size // 3, size):
        numbers: list[int] = []
        for start in range(0, size, part):
            split = Split(str(path), start, min(start + part, size))
            for first, some in parquet.read_split(split, layout, ReadOptions()):
                numbers += range(first, first + some.num_rows)
        assert numbers == list(range(95))


def test_memory_holds_some_rows_of_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = forms.write_form(tmp_path / "a", "nested.parquet", [GOOD] * 100, group=100)
    monkeypatch.setattr(parquet, "BATCH_ROWS", 8)
    sizes = [
        rows.num_rows for _, rows in parquet.read_split(Split(str(path), 0, WHOLE), "rollouts", ReadOptions())
    ]
    assert max(sizes) == 8
    assert sum(sizes) == 100


def test_rows_are_read_by_number_and_each_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**GOOD, "rollout_id": str(number)} for number in range(50)]
    path = forms.write_form(tmp_path / "a", "flat.parquet", rows, group=10)
    groups: list[int] = []
    read = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda self, *args, **options: groups.extend(options["row_groups"]) or read(self, *args, **options),
    )
    found = dict(parquet.read_rows(str(path), [3, 4, 29, 30, 99], "rollouts", ReadOptions()))
    assert {number: row["rollout_id"] for number, row in found.items()} == {
        3: "3",
        4: "4",
        29: "29",
        30: "30",
    }
    assert groups == [0, 2, 3]
    assert found[3]["steps_with_score"] == [
        {"step": "one", "score": 1.0, "num_mc_correct": None, "num_mc_total": None}
    ]


def test_only_the_columns_that_are_read_are_decoded(
    tmp_path: Path, rollout: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = forms.write_form(tmp_path / "a", "nested.parquet", [rollout(answer="x", response="y")])
    asked: list[list[str]] = []
    read = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda self, *args, **options: asked.append(options["columns"]) or read(self, *args, **options),
    )
    assert [
        rows.num_rows for _, rows in parquet.read_split(Split(str(path), 0, WHOLE), "rollouts", ReadOptions())
    ] == [1]
    assert asked == [["image", "question", "steps_with_score"]]
