"""A rerun over a corpus of both layouts takes from the index what a scan would find again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import forms
from support.index_files import contents

from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from bisieve.pipeline import run as job
from bisieve.shards.fetch import fetch_rollouts


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
        ("s.jsonl", {"s"}),
        ("new-steps.jsonl", {"new-steps"}),
        ("gone a.jsonl", set()),
        ("gone t.parquet", set()),
        ("a.jsonl as steps", {"a"}),
        ("u.jsonl as rollouts", {"u"}),
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
    selection = read_selection(open_index(str(tmp_path / "index")), 1.0)
    assert len(fetch_rollouts(selection.rows, selection.shards)) == selection.rows.num_rows


def test_records_read_in_another_way_are_scanned_again_and_other_images_are_not(
    score: Callable[..., Any], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(corpus, tmp_path / "index")
    found: list[Any] = []
    scan = job.scan_corpus
    monkeypatch.setattr(job, "scan_corpus", lambda *args: (found.append(args[1]), scan(*args))[1])
    assert score(corpus, tmp_path / "index", image_prefixes={"": "images/"})[1]
    assert found == [{}]
    selection = read_selection(open_index(str(tmp_path / "index")), 1.0)
    assert {rollout.images for rollout in fetch_rollouts(selection.rows, selection.shards)} == {
        ("images/a.png",)
    }
    score(corpus, tmp_path / "index", source_from="folder")
    assert set(found[1]) == {"rollouts", "steps"}
    # Named, the layout holds for all: those of the other one are read, and rejected, as such.
    score(corpus, tmp_path / "index", source_from="folder", layout="rollouts")
    assert [Path(split.shard).stem for task in found[2]["rollouts"] for split in task] == ["s", "t", "u"]


def step(rollout_id: Any, index: int, **fields: Any) -> dict[str, Any]:
    head = {"image": "a.png", "question": "What?", "kind": "x"} if index == 0 else {}
    return {"rollout_id": rollout_id, "step_index": index, "step": "text", "score": 0.5, **head, **fields}


@pytest.mark.parametrize("source_field", [None, "kind"])
def test_of_steps_that_are_as_they_were_only_those_of_touched_rollouts_are_read_again(
    score: Callable[..., Any],
    write_jsonl: Callable[..., Path],
    tmp_path: Path,
    source_field: str | None,
) -> None:
    corpus = tmp_path / "corpus"
    told: dict[str, dict[str, Any]] = {}

    def rerun(index: str = "index") -> tuple[int, int, int, int]:
        """Shards to scan, bytes that were read, rollouts that were assembled and that were not."""
        score(
            corpus, tmp_path / index, layout="steps", source_field=source_field,
            emit=lambda event, text="", **fields: told.update({event: fields}),
        )  # fmt: skip
        scanned = told["scanned"]
        return told["listed"]["to_scan"], scanned["bytes"], scanned["rollouts"], scanned["kept"]

    def equals_a_fresh_run() -> bool:
        shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
        rerun("fresh")
        return contents(tmp_path / "fresh").items() <= contents(tmp_path / "index").items()

    def lines(*steps: dict[str, Any]) -> int:
        return sum(len(json.dumps(step)) for step in steps)

    one = [step(f"r{number}", index) for number in range(50) for index in (1, 0)]
    write_jsonl("corpus/one.jsonl", [*one, step("gap", 0), step(1, 0)])
    write_jsonl("corpus/two.jsonl", [step("gap", 2), step("r7", 2), step("", 0), b"{", step("other", 0)])
    rerun()
    assert told["rejected"]["reasons"] == {"bad_json": 1, "missing_step": 1, "no_rollout_id": 1}

    # A gap is filled, a rollout goes on, another one is new, and 1 is told apart from "1" nowhere.
    new = write_jsonl("corpus/new.jsonl", [step("gap", 1), step("new", 0), step("1", 1, score=1)])
    again = lines(step("gap", 0), step("gap", 2), step(1, 0))
    assert rerun() == (1, new.stat().st_size + again, 3, 50 + 3)
    assert told["rejected"]["reasons"] == {"bad_json": 1, "no_rollout_id": 1}
    assert equals_a_fresh_run()

    # Another gap, a rollout that ends earlier, and those that lie elsewhere as a whole.
    (corpus / "two.jsonl").unlink()
    again = lines(step("gap", 0), step("gap", 1), step("r7", 0), step("r7", 1))
    assert rerun() == (0, again, 2, 49 + 2)
    assert equals_a_fresh_run()

    # A rollout is spoilt that lies in a shard that changes and in one that does not.
    new = write_jsonl("corpus/new.jsonl", [step("r3", 1), step("gap", 1, image="b.png")])
    again = lines(step("gap", 0), step("r3", 0), step("r3", 1), step(1, 0))
    assert rerun() == (1, new.stat().st_size + again, 3, 49)
    assert told["rejected"]["reasons"] == {"conflicting_rollout": 1, "duplicate_step": 1}
    assert equals_a_fresh_run()
