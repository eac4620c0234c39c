from collections.abc import Callable
from pathlib import Path

import pytest

from bisieve.errors import CorpusError, StorageError
from bisieve.shards import detect_layout, file_stem, list_shards, split_shards


def test_shards_are_found_once_and_in_path_order(write_jsonl: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/z.jsonl", "a.ndjson"):
        write_jsonl(name, [b"{}"])
    (tmp_path / "notes.txt").write_text("no shard")
    shards = list_shards([str(tmp_path), str(tmp_path / "*.jsonl")])
    assert [Path(shard.url).name for shard in shards] == ["a.ndjson", "z.jsonl", "b.jsonl"]


def test_a_folder_without_shards_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no file"):
        list_shards([str(tmp_path)])
    (tmp_path / "data.csv").write_text("a,b")
    with pytest.raises(CorpusError, match=r"data\.csv"):
        list_shards([str(tmp_path)])
    with pytest.raises(StorageError, match="found nothing"):
        list_shards([str(tmp_path / "typo")])


def test_a_shard_of_a_kind_that_is_not_read_is_never_passed_over(
    write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    write_jsonl("a.jsonl", [b"{}"])
    (tmp_path / "b.parquet").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"1 others, such as .*b\.parquet"):
        list_shards([str(tmp_path)])


def test_splits_cover_a_shard_without_overlap(write_jsonl: Callable[..., Path]) -> None:
    path = write_jsonl("a.jsonl", [b"x" * 99] * 10)
    splits = split_shards(list_shards([str(path)]), split_bytes=300)
    assert [(split.start, split.end) for split in splits] == [(0, 300), (300, 600), (600, 900), (900, 1000)]


def test_an_empty_shard_has_no_split(write_jsonl: Callable[..., Path]) -> None:
    assert split_shards(list_shards([str(write_jsonl("a.jsonl", []))]), 100) == []


def test_the_source_of_a_shard_is_its_stem() -> None:
    assert file_stem("s3://bucket/x/ai2d_train.v2.jsonl") == "ai2d_train.v2"


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
    assert detect_layout(list_shards([str(write_jsonl("a.jsonl", records))])) == layout


@pytest.mark.parametrize(
    ("records", "found"),
    [([], "no JSON object"), ([b"broken"], "no JSON object"), ([{"text": "x", "label": 1}], "label, text")],
)
def test_no_known_column_is_an_error_that_names_the_found_ones(
    write_jsonl: Callable[..., Path], records: list[object], found: str
) -> None:
    with pytest.raises(CorpusError, match=found):
        detect_layout(list_shards([str(write_jsonl("a.jsonl", records))]))
