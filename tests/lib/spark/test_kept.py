"""A rerun over a corpus of both layouts takes from the index what a scan would find again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import forms
import pytest

from bisieve.cut import read_cut
from bisieve.fetch import fetch_rollouts
from bisieve.index import open_index
from bisieve.spark import job
from bisieve.spark.kept import unchanged_shards
from bisieve.storage import FileInfo


def contents(index: Path) -> dict[str, bytes]:
    return {str(path.relative_to(index)): path.read_bytes() for path in index.rglob("*") if path.is_file()}


@pytest.fixture
def corpus(rollout: Callable[..., Any], tmp_path: Path) -> Path:
    """Two shards of rollouts; one rollout whose steps lie in two shards, and one in a third."""
    for name, form in (("a", "jsonl"), ("b", "nested.parquet")):
        forms.write_form(tmp_path / "corpus" / name, form, [rollout([number / 5]) for number in range(5)])
    first, second = forms.as_steps(rollout([0.5, 1.0], rollout_id="x"))
    forms.write_form(tmp_path / "corpus/s", "jsonl", [first])
    forms.write_form(tmp_path / "corpus/t", "nested.parquet", [second])
    forms.write_form(tmp_path / "corpus/u", "steps.jsonl", [rollout([0.0], rollout_id="y", image=None)])
    return tmp_path / "corpus"


@pytest.mark.parametrize(
    ("changed", "scanned"),
    [
        ("a.jsonl", {"a"}),
        ("b.parquet", {"b"}),
        ("new.jsonl", {"new"}),
        ("s.jsonl", {"s", "t", "u"}),
        ("new-steps.jsonl", {"new-steps", "s", "t", "u"}),
        ("gone a.jsonl", set()),
        ("gone t.parquet", {"s", "u"}),
        ("a.jsonl as steps", {"a", "s", "t", "u"}),
        ("u.jsonl as rollouts", {"s", "t", "u"}),
    ],
)
def test_a_rerun_equals_a_fresh_run_and_scans_only_what_it_must(
    score: Callable[..., Any],
    rollout: Callable[..., Any],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
    scanned: set[str],
) -> None:
    score(corpus, tmp_path / "index")
    name = changed.removeprefix("gone ").split()[0]
    path, stem = corpus / name, Path(name).stem
    if changed.startswith("gone"):
        path.unlink()
    else:
        is_steps = stem in ("s", "new-steps") or changed.endswith("steps")
        form = "steps.jsonl" if is_steps else "jsonl" if name.endswith("jsonl") else "nested.parquet"
        forms.write_form(
            corpus / stem, form, [rollout([1.0, 0.0], rollout_id="z"), rollout([0.5], rollout_id="w")]
        )
    found: list[Any] = []
    scan = job.scan_corpus
    monkeypatch.setattr(job, "scan_corpus", lambda *args: (found.append(args[1]), scan(*args))[1])
    score(corpus, tmp_path / "index")
    splits = [split for tasks in found for packed in tasks.values() for task in packed for split in task]
    assert {Path(split.shard).stem for split in splits} == scanned
    score(corpus, tmp_path / "fresh")
    assert contents(tmp_path / "fresh").items() <= contents(tmp_path / "index").items()
    cut = read_cut(open_index(str(tmp_path / "index")), 1.0)
    assert len(fetch_rollouts(cut.rows, cut.shards)) == cut.rows.num_rows


def test_records_read_in_another_way_are_scanned_anew_and_other_images_are_not(
    score: Callable[..., Any], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(corpus, tmp_path / "index")
    found: list[Any] = []
    scan = job.scan_corpus
    monkeypatch.setattr(job, "scan_corpus", lambda *args: (found.append(args[1]), scan(*args))[1])
    assert score(corpus, tmp_path / "index", image_prefixes={"": "images/"})[1]
    assert found == [{}]
    cut = read_cut(open_index(str(tmp_path / "index")), 1.0)
    assert {rollout.images for rollout in fetch_rollouts(cut.rows, cut.shards)} == {("images/a.png",)}
    score(corpus, tmp_path / "index", source_from="folder")
    assert set(found[1]) == {"rollouts", "steps"}
    # Named, the layout holds for all: those of the other one are read, and rejected, as such.
    score(corpus, tmp_path / "index", source_from="folder", layout="rollouts")
    assert [Path(split.shard).stem for task in found[2]["rollouts"] for split in task] == ["s", "t", "u"]


def test_steps_are_kept_together_or_not_at_all() -> None:
    a, s, t = (FileInfo(name, 1, "etag") for name in "ast")
    known: Any = {a: "rollouts", s: "steps", t: "steps"}
    assert unchanged_shards(known, known) == [a, s, t]
    assert unchanged_shards({a: "rollouts", s: "steps"}, known) == [a]
    assert unchanged_shards({**known, FileInfo("n", 1, "etag"): "steps"}, known) == [a]
    assert unchanged_shards({**known, FileInfo("n", 1, "etag"): "rollouts"}, known) == [a, s, t]
    assert unchanged_shards({a: "steps"}, {a: "rollouts"}) == []
