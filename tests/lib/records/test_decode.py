"""Steps in lists are read as the list of steps that they are, in scans, training's reader and exports."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisieve.records.decode import joined
from bisieve.records.options import KnownShards, ReadOptions
from bisieve.scan import scan_rollout_split
from bisieve.scan.batches import ScanOptions
from bisieve.shards.fetch import fetch_rollouts
from bisieve.shards.listing import Split
from bisieve.tools.plain_records import plain_lines

PROMPT = {"image": "a.png", "question": "What?"}
STEPS = {"step": ["one", "two", "three", "four"]}
LABELS = [True, True, False, True]
TRL = ReadOptions(
    fields={"question": "prompt", "step": "completions", "score": "labels"}, labels_as_scores=True
)


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def scan(path: Path, reading: ReadOptions) -> pa.Table:
    batches = list(scan_rollout_split(Split(str(path), 0, 10**9), ScanOptions(0.05, reading=reading)))
    return pa.Table.from_batches(batches)


def lists(form: str, **columns: list[Any]) -> dict[str, Any]:
    return {**PROMPT, **columns} if form == "side by side" else {**PROMPT, "steps_with_score": columns}


both_forms = pytest.mark.parametrize("form", ["side by side", "struct of lists"])
both_files = pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])


@both_files
def test_labels_of_trl_give_the_score_that_they_mean(tmp_path: Path, name: str) -> None:
    record = {"image": "a.png", "prompt": "What?", "completions": STEPS["step"], "labels": LABELS}
    path = write(
        tmp_path / name, [record, {**record, "labels": [False] * 4}, {**record, "labels": [True] * 4}]
    )
    rows = scan(path, TRL)
    # p = 3/4 and R = 1: (3/4 · 1/4 + 0.05) · 1; without a positive step, or with no other, 0.05.
    assert rows["bis"].to_pylist() == [0.2375, 0.05, 0.05]
    assert rows["scores"].to_pylist()[0] == [1.0, 1.0, 0.0, 1.0]
    shards = KnownShards(TRL, {str(path): "rollouts"})
    first = fetch_rollouts(rows, shards)[0]
    assert (first.question, first.steps, first.scores) == (
        "What?",
        tuple(STEPS["step"]),
        (1.0, 1.0, 0.0, 1.0),
    )
    # What is exported needs no --field.
    again = tmp_path / "again.jsonl"
    again.write_bytes(b"\n".join(plain_lines(rows, shards)))
    assert scan(again, ReadOptions(labels_as_scores=True))["bis"].to_pylist() == [0.2375, 0.05, 0.05]


@both_files
def test_names_inside_a_struct_of_lists_and_a_source_in_the_path_are_read(tmp_path: Path, name: str) -> None:
    trace = {"text": STEPS["step"], "value": [0.0, 0.5, 1.0, 1.0]}
    (tmp_path / "source=geo").mkdir()
    path = write(tmp_path / "source=geo" / name, [{**PROMPT, "trace": trace, "answer": "x"}])
    fields = {"steps_with_score": "trace", "step": "text", "score": "value"}
    rows = scan(path, ReadOptions(fields=fields, source_field="source"))
    assert (rows["source"].to_pylist(), rows["scores"].to_pylist()) == (["geo"], [[0.0, 0.5, 1.0, 1.0]])
    (line,) = plain_lines(
        rows, KnownShards(ReadOptions(fields=fields, source_field="source"), {str(path): "rollouts"})
    )
    steps = json.loads(line)["steps_with_score"]
    read = steps["step"] if isinstance(steps, dict) else [step["step"] for step in steps]
    assert (read, json.loads(line)["source"]) == (STEPS["step"], "geo")


@both_files
@both_forms
def test_labels_are_refused_by_name_unless_they_are_asked_for(tmp_path: Path, name: str, form: str) -> None:
    path = write(tmp_path / name, [lists(form, **STEPS, score=LABELS)])
    assert scan(path, ReadOptions())["reason"].to_pylist() == ["label_as_score"]


@both_files
@both_forms
@pytest.mark.parametrize("score", [[0.5], [True], [0.5] * 5, []], ids=["shorter", "labels", "longer", "none"])
def test_scores_that_do_not_fit_the_steps_are_never_replaced_by_counts(
    tmp_path: Path, name: str, form: str, score: list[Any]
) -> None:
    counts = {"num_mc_correct": [1] * 4, "num_mc_total": [2] * 4}
    other = [0.5] * 4 if score != [True] else [True] * 4
    records = [lists(form, **STEPS, score=score, **counts), lists(form, **STEPS, score=other, **counts)]
    rows = scan(write(tmp_path / name, records), ReadOptions(labels_as_scores=True))
    assert sorted(rows["reason"].to_pylist(), key=str) == [None, "bad_score"]


@both_files
@both_forms
def test_counts_alone_are_enough_and_those_that_do_not_fit_are_left_out(
    tmp_path: Path, name: str, form: str
) -> None:
    counted = lists(form, **STEPS, num_mc_correct=[1.0, 2.0, 3.0, 4.0], num_mc_total=[4] * 4)
    rows = scan(write(tmp_path / name, [counted]), ReadOptions())
    assert rows["scores"].to_pylist() == [[0.25, 0.5, 0.75, 1.0]]
    assert rows["mc_correct"].to_pylist() == [[1, 2, 3, 4]]
    odd = lists(form, **STEPS, score=[1.0] * 4, num_mc_correct=[1], num_mc_total=[4] * 4)
    rows = scan(write(tmp_path / name, [odd]), ReadOptions())
    assert (rows["scores"].to_pylist(), rows["mc_correct"].to_pylist()) == ([[1.0] * 4], [None])


@both_files
@both_forms
def test_counts_stand_in_for_labels_that_are_null(tmp_path: Path, name: str, form: str) -> None:
    counts = {"num_mc_correct": [1] * 4, "num_mc_total": [2] * 4}
    records = [lists(form, **STEPS, score=score, **counts) for score in ([None] * 4, LABELS)]
    rows = scan(write(tmp_path / name, records), ReadOptions())
    found = dict(zip(rows["reason"].to_pylist(), rows["scores"].to_pylist(), strict=True))
    assert found == {None: [0.5] * 4, "label_as_score": None}


def test_a_record_that_names_its_steps_is_not_searched_for_lists() -> None:
    for steps in ([], None, [{"step": "one"}]):
        record = {"steps_with_score": steps, "step": ["one"], "score": [1.0]}
        assert joined(record) is record


def test_other_fields_stay_beside_the_joined_steps() -> None:
    assert joined({"step": ["a"], "score": [1.0], "answer": 5}) == {
        "answer": 5, "steps_with_score": [{"step": "a", "score": 1.0}],
    }  # fmt: skip
