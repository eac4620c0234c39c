"""A corpus or a store that no index can be made of, and shards that change: each named in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bisieve.errors import CorpusError, IndexUnusableError, StorageError
from bisieve.index.reader import check_shards_unchanged, open_index
from bisieve.index.selection import read_selection
from bisieve.index.writer import rejected_by_source
from bisieve.io.storage import write_bytes
from bisieve.shards.fetch import fetch_rollouts


def test_no_usable_rollout_is_an_error_and_publishes_nothing(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    shard = write_jsonl("a.jsonl", [rollout(image=None), rollout(["x"])])
    with pytest.raises(CorpusError, match=r"1 no_image \(first: file://.*@0\)"):
        score(shard, tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_labels_alone_are_an_error_that_names_the_option_for_them(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    shard = write_jsonl("a.jsonl", [rollout([True])])
    with pytest.raises(CorpusError, match=r"1 label_as_score .*; --labels-as-scores reads true as 1"):
        score(shard, tmp_path / "index")


def test_records_that_all_lack_a_field_are_an_error_that_names_the_options_that_read_them(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    labels = {"step": ["one", "two", "three", "four"], "labels": [True, True, False, True]}
    record = {"image": "a.png", "prompt": "What?", **labels}
    shard = write_jsonl("a.jsonl", [record, {**record, "labels": [False] * 4}])
    options = "--field question=prompt --field score=labels --labels-as-scores"
    with pytest.raises(CorpusError, match=rf"found 2 no_question .*; did you mean {options}\?"):
        score(shard, tmp_path / "index")
    score(shard, tmp_path / "index", fields={"question": "prompt", "score": "labels"}, labels_as_scores=True)
    # (3/4 · 1/4 + 0.05) · 1, and 0.05 where no step is right.
    assert read_selection(open_index(str(tmp_path / "index")), 1.0).rows["bis"].to_pylist() == [0.2375, 0.05]


@pytest.mark.parametrize("layout", ["auto", "rollouts", "steps"])
def test_an_empty_shard_is_an_error_whatever_layout_is_named(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], tmp_path: Path, layout: str
) -> None:
    with pytest.raises(CorpusError, match=r"no record at all|no JSON object|an empty file"):
        score(write_jsonl("a.jsonl", []), tmp_path / "index", layout=layout)


def test_the_manifest_of_something_else_is_not_overwritten(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    write_bytes(str(tmp_path / "index/manifest.json"), b'{"name": "a web page"}')
    with pytest.raises(IndexUnusableError, match="another --index"):
        score(write_jsonl("a.jsonl", [rollout()]), tmp_path / "index")


def test_one_bad_line_spoils_neither_the_run_nor_another_source(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    records = [rollout(set="x"), rollout([1.5], set="x"), rollout(["0.5"], set="x")]
    made, _ = score(write_jsonl("a.jsonl", records), tmp_path / "one", source_field="set")
    assert rejected_by_source(made.sources) == {("x", "bad_score"): 2}
    step = {"rollout_id": "r", "step_index": 0, "step": "x", "score": 1, "image": "a.png", "question": "?"}
    steps = [step, {**step, "rollout_id": "\ud800", "score": "1"}]
    lines = [json.dumps(record).encode() for record in steps]
    made, _ = score(write_jsonl("b.jsonl", lines), tmp_path / "two")
    assert (made.manifest.rollouts, made.manifest.rejected) == (1, {"bad_json": 1})


def test_a_record_that_was_rewritten_in_place_is_not_taken_for_the_one_that_was_ranked(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    score(write_jsonl("a.jsonl", [rollout([0.5])]), tmp_path / "index")
    selection = read_selection(open_index(str(tmp_path / "index")), 1.0)
    write_jsonl("a.jsonl", [rollout([0.0])])
    with pytest.raises(IndexUnusableError, match="found other content;"):
        fetch_rollouts(selection.rows, selection.shards)


def test_a_reader_is_told_of_shards_that_changed_since(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    shard = write_jsonl("corpus/a.jsonl", [rollout()])
    score(shard.parent, tmp_path / "index")
    write_jsonl("corpus/b.jsonl", [rollout()])
    check_shards_unchanged(open_index(str(tmp_path / "index")))  # a new shard is no harm
    write_jsonl("corpus/a.jsonl", [rollout([0.5])])
    with pytest.raises(IndexUnusableError, match="1 changed"):
        check_shards_unchanged(open_index(str(tmp_path / "index")))
    shard.unlink()
    with pytest.raises(IndexUnusableError, match="gone"):
        check_shards_unchanged(open_index(str(tmp_path / "index")))


def test_a_store_that_refuses_a_worker_is_one_line(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    shard = write_jsonl("a.jsonl", [rollout()])
    (tmp_path / "index").mkdir()
    (tmp_path / "index/versions").write_text("in the way of the folder of versions")
    with pytest.raises(StorageError, match=r"expected a folder at .*/index/versions; found a file") as caught:
        score(shard, tmp_path / "index")
    assert "\n" not in str(caught.value)


def test_a_source_field_that_no_record_has_is_what_to_check(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match=r"2 no_source .*; check --source-field"):
        score(write_jsonl("a.jsonl", [rollout()] * 2), tmp_path / "index", source_field="nosuch")
