from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import forms

from bisieve.errors import CorpusError
from bisieve.pipeline import scan_tasks
from bisieve.pipeline.scan_tasks import layouts_by_tasks
from bisieve.records.options import ReadOptions
from bisieve.shards import layout
from bisieve.shards.layout import find_layouts, resolve_layouts
from bisieve.shards.listing import list_shards
from bisieve.spark.engine import SparkEngine


def detect(path: Path, reading: ReadOptions | None = None) -> list[str]:
    reading = reading or ReadOptions()
    shards = list_shards([str(path)])
    return list(resolve_layouts(shards, find_layouts(shards, reading), reading).values())


@pytest.mark.parametrize(
    ("records", "layout"),
    [
        ([{"steps_with_score": []}], "rollouts"),
        ([b"broken", b"", {"step_index": 3}], "steps"),
        ([b"[]", {"other": 1}, {"steps_with_score": []}], "rollouts"),
    ],
)
def test_the_layout_shows_in_the_first_record_that_has_one(
    write_jsonl: Callable[..., Path], records: list[object], layout: str
) -> None:
    assert detect(write_jsonl("a.jsonl", records)) == [layout]


@pytest.mark.parametrize(
    ("form", "layout"),
    [
        ("nested.parquet", "rollouts"),
        ("flat.parquet", "rollouts"),
        ("lists.parquet", "rollouts"),
        ("steps.parquet", "steps"),
        ("flat.jsonl", "rollouts"),
        ("lists.jsonl", "rollouts"),
    ],
)
def test_the_layout_shows_in_columns_and_fields(
    rollout: Callable[..., Any], tmp_path: Path, form: str, layout: str
) -> None:
    assert detect(forms.write_form(tmp_path / "a", form, [rollout(rollout_id="r")])) == [layout]


def test_the_layout_shows_under_the_names_that_fields_have(
    write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    write_jsonl("a.jsonl", [{"trace": [], "step_index": 0}])
    write_jsonl("b.jsonl", [{"place": 0, "steps_with_score": 0}])
    reading = ReadOptions(fields={"steps_with_score": "trace", "step_index": "place"})
    assert detect(tmp_path, reading) == ["rollouts", "steps"]


def test_each_shard_has_a_layout_and_one_that_shows_none_is_taken_for_rollouts(
    write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    for name, records in {"a": [], "b": [{"step_index": 0}], "c": [b"broken"]}.items():
        write_jsonl(f"{name}.jsonl", records)
    assert detect(tmp_path) == ["rollouts", "steps", "rollouts"]


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([], "found an empty file at file://"),
        ([b"broken"], "no JSON object"),
        ([{"text": "x", "label": 1}], "label, text"),
    ],
)
def test_no_known_field_is_an_error_that_names_the_found_ones(
    write_jsonl: Callable[..., Path], records: list[object], found: str
) -> None:
    with pytest.raises(CorpusError, match=found):
        detect(write_jsonl("a.jsonl", records))


def test_no_known_column_is_an_error_that_names_the_found_ones(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x"], "label": [1]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match="the fields text, label in"):
        detect(tmp_path)


TRL = {"prompt": "What?", "completions": ["one"], "labels": [True], "image": "a.png"}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_records_under_other_tools_names_are_an_error_whose_options_read_them(
    write_jsonl: Callable[..., Path], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "jsonl":
        write_jsonl(path.name, [TRL])
    else:
        pq.write_table(pa.Table.from_pylist([TRL]), path)
    mapping = "--field question=prompt --field step=completions --field score=labels"
    with pytest.raises(CorpusError, match=rf"did you mean {mapping} --labels-as-scores\?"):
        detect(path)
    fields = dict(pair.split("=") for pair in mapping.replace("--field ", "").split())
    assert detect(path, ReadOptions(fields=fields)) == ["rollouts"]


def test_a_layout_that_is_named_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"is not opened")
    monkeypatch.setattr(layout, "ThreadPoolExecutor", None)
    assert detect(tmp_path, ReadOptions(layout="steps")) == ["steps"]


def test_many_shards_are_looked_at_by_spark(
    spark: Any, write_jsonl: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        write_jsonl(f"{number}.jsonl", [{"step_index": 0} if number % 2 else {"steps_with_score": []}])
    monkeypatch.setattr(scan_tasks, "SHARDS_A_TASK", 3)
    shards = list_shards([str(tmp_path)])
    assert layouts_by_tasks(SparkEngine(spark), shards, ReadOptions()) == find_layouts(shards, ReadOptions())
