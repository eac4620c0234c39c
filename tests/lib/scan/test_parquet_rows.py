"""Rows are scanned as the lines that hold the same records."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import forms

from bisieve.records.decode import record_converter
from bisieve.records.model import rollout_reason
from bisieve.records.options import ReadOptions
from bisieve.scan import scan_rollout_split, scan_step_split
from bisieve.scan.batches import ScanOptions
from bisieve.scan.parquet_rows import doubtful
from bisieve.shards.listing import Split
from bisieve.shards.parquet_fields import record_rows

WHOLE = 10**12
GOOD = {"image": "a.png", "question": "What?", "steps_with_score": [{"step": "one", "score": 1.0}]}


def scan(path: Path, layout: str = "rollouts", **reading: Any) -> list[dict[str, Any]]:
    scan_split = scan_rollout_split if layout == "rollouts" else scan_step_split
    batches = scan_split(Split(str(path), 0, WHOLE), ScanOptions(0.05, reading=ReadOptions(**reading)))
    rows = [row for batch in batches for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: row["offset"])


def step(**fields: Any) -> dict[str, Any]:
    return {"steps_with_score": [{"step": "fine", "score": 1.0}, {"step": "one", "score": 1.0, **fields}]}


@pytest.mark.parametrize("form", ["nested.parquet", "flat.parquet"])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"image": ["a.png", "b.png"]}, None),
        ({"image": None}, "no_image"),
        ({"image": " "}, "no_image"),
        ({"image": []}, "no_image"),
        ({"image": ["a.png", ""]}, "no_image"),
        ({"image": ["a.png", None]}, "no_image"),
        ({"image": 5}, "no_image"),
        ({"image": b"a.png"}, "no_image"),
        ({"question": None}, "no_question"),
        ({"question": "  \n\x1c\x85\u2028"}, "no_question"),
        ({"question": 7}, "no_question"),
        ({"question_orig": 7}, "no_question"),
        ({"question_orig": " "}, "no_question"),
        ({"question": "", "question_orig": "What?"}, None),
        ({"question": "数"}, None),
        ({"question": "What is <prm>?"}, "marker_in_text"),
        ({"question": "What is <prm>?", "question_orig": "What?"}, None),
        ({"steps_with_score": []}, "no_steps"),
        (step(step=""), "empty_step"),
        (step(step=" \u2003"), "empty_step"),
        (step(step=None), "empty_step"),
        (step(step="数"), None),
        (step(step="two <prm> three"), "marker_in_text"),
        (step(score=None), "bad_score"),
        (step(score=1.0001), "bad_score"),
        (step(score=-0.1), "bad_score"),
        (step(score=float("nan")), "bad_score"),
        (step(score=float("inf")), "bad_score"),
        ({"steps_with_score": [{"step": "x", "score": "0.5"}]}, "bad_score"),
        ({"steps_with_score": [{"step": "x", "score": True}]}, "label_as_score"),
        ({"steps_with_score": [{"step": "x", "score": 1}]}, None),
        ({"steps_with_score": [{"step": "x", "score": Decimal("0.50")}]}, None),
        ({"rollout_id": ""}, "no_rollout_id"),
        ({"rollout_id": 1.5}, "no_rollout_id"),
        ({"rollout_id": 7}, None),
    ],
    ids=str,
)
def test_a_row_is_usable_or_has_a_reason(
    tmp_path: Path, form: str, fields: dict[str, Any], reason: str | None
) -> None:
    # Other rows of the file have the types of this one; what a type cannot have, is null there.
    path = forms.write_form(tmp_path / "a", form, [{**GOOD, **fields}])
    (row,) = scan(path)
    assert (row["reason"], row["offset"], row["length"]) == (reason, 0, 1)
    assert row["source"] == "a"


@pytest.mark.parametrize("form", ["nested.parquet", "flat.parquet"])
def test_bad_rows_spoil_no_other_and_are_told_by_their_number(tmp_path: Path, form: str) -> None:
    bad = {3: "no_image", 7: "no_question", 8: "no_steps", 20: "bad_score", 49: "empty_step"}
    changes = {"no_image": {"image": None}, "no_question": {"question": ""},
               "no_steps": {"steps_with_score": []}, "bad_score": step(score=2.0),
               "empty_step": step(step=" ")}  # fmt: skip
    rows = [{**GOOD, **(changes[bad[number]] if number in bad else {})} for number in range(50)]
    found = scan(forms.write_form(tmp_path / "a", form, rows, group=9))
    assert [row["offset"] for row in found] == list(range(50))
    assert {row["offset"]: row["reason"] for row in found if row["reason"]} == bad
    spans = [row["spans"] for row in found if row["reason"] is None]
    assert spans[0] == [{"shard": str(tmp_path / "a.parquet"), "offset": 0, "length": 1}]


@pytest.mark.parametrize("spoilt", ["step", "score"])
def test_lists_side_by_side_of_unequal_length_are_a_bad_score(tmp_path: Path, spoilt: str) -> None:
    row = {**forms.as_flat(GOOD), "step": ["one", "two"], "score": [1.0, 0.5]}
    row[spoilt] = [*row[spoilt], row[spoilt][0]]
    rows = [forms.as_flat(GOOD), row]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [row["reason"] for row in scan(tmp_path / "a.parquet")] == [None, "bad_score"]


@pytest.mark.parametrize("form", ["nested.parquet", "flat.parquet"])
@pytest.mark.parametrize(
    ("count", "kept"),
    [(3, 3), (None, None), (-1, None), (17, None), (2**31, None), (3.0, 3), (3.5, None), ("3", None)],
)
def test_counts_that_are_no_counts_are_left_out(tmp_path: Path, form: str, count: Any, kept: Any) -> None:
    steps = [{"step": "x", "score": 1.0, "num_mc_correct": count, "num_mc_total": 16}]
    (row,) = scan(forms.write_form(tmp_path / "a", form, [{**GOOD, "steps_with_score": steps}]))
    assert row["reason"] is None
    assert row["mc_correct"] == (None if kept is None else [kept])


@pytest.mark.parametrize("form", ["nested.parquet", "flat.parquet", "jsonl"])
def test_the_two_counts_are_enough_for_a_score(tmp_path: Path, form: str) -> None:
    counts = [(3.0, 16.0), (0, 16), (0, 0)]
    steps = [{"step": "x", "num_mc_correct": k, "num_mc_total": n} for k, n in counts]
    kept, refused = ({**GOOD, "steps_with_score": some} for some in (steps[:2], steps))
    found = scan(forms.write_form(tmp_path / "a", form, [kept, refused]))
    usable, rejected = sorted(found, key=lambda row: row["reason"] or "")
    assert (usable["scores"], usable["mc_correct"], usable["mc_total"]) == ([3 / 16, 0.0], [3, 0], [16, 16])
    assert rejected["reason"] == "bad_score"


def test_scores_of_another_number_than_steps_are_not_replaced_by_counts(tmp_path: Path) -> None:
    steps = [{"step": "one", "score": 1.0, "num_mc_correct": 3, "num_mc_total": 16}]
    row = forms.as_flat({**GOOD, "steps_with_score": steps})
    pq.write_table(pa.Table.from_pylist([{**row, "score": [1.0, 1.0]}]), tmp_path / "a.parquet")
    assert [row["reason"] for row in scan(tmp_path / "a.parquet")] == ["bad_score"]


@pytest.mark.parametrize("form", ["nested.parquet", "flat.parquet", "jsonl"])
def test_labels_are_scores_only_where_that_was_asked_for(tmp_path: Path, form: str) -> None:
    steps = [{"step": "x", "score": True}, {"step": "y", "score": False}]
    path = forms.write_form(tmp_path / "a", form, [{**GOOD, "steps_with_score": steps}])
    assert [row["reason"] for row in scan(path)] == ["label_as_score"]
    (row,) = scan(path, labels_as_scores=True)
    assert (row["reason"], row["scores"]) == (None, [1.0, 0.0])


def test_counts_of_another_number_than_steps_are_left_out_of_that_row_alone(tmp_path: Path) -> None:
    rows = [forms.as_flat({**GOOD, **step(num_mc_correct=3, num_mc_total=16)}) for _ in range(3)]
    for row, counts in zip(rows, ([1, 2], [1], [3, 4]), strict=True):
        row["num_mc_correct"], row["num_mc_total"] = counts, [16, 16]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [row["mc_correct"] for row in scan(tmp_path / "a.parquet")] == [[1, 2], None, [3, 4]]


def test_text_that_is_none_is_a_reject_and_spoils_no_other_row(tmp_path: Path) -> None:
    questions = pa.array([b"What?", b"\xff", b"Why?"])
    broken = pa.StringArray.from_buffers(3, questions.buffers()[1], questions.buffers()[2])
    table = pa.Table.from_pylist([forms.as_flat(GOOD)] * 3)
    pq.write_table(table.set_column(1, "question", broken), tmp_path / "a.parquet")
    assert [row["reason"] for row in scan(tmp_path / "a.parquet")] == [None, "bad_json", None]


@pytest.mark.parametrize("source", ["x", None, " ", 5])
def test_the_source_field_is_a_column(tmp_path: Path, source: Any) -> None:
    path = forms.write_form(tmp_path / "a", "nested.parquet", [{**GOOD, "set": source}])
    (row,) = scan(path, source_field="set")
    expected = ("x", None) if source == "x" else ("a", "no_source")
    assert (row["source"], row["reason"]) == expected


@pytest.mark.parametrize("form", ["nested.parquet", "flat.parquet"])
def test_columns_have_the_names_they_are_said_to_have(tmp_path: Path, form: str) -> None:
    record = {
        "img": "a.png", "prompt": "What?", "question": "not this",
        "steps": [{"text": text, "value": k / 16, "k": k, "n": 16} for text, k in (("one", 8), ("two", 0))],
    }  # fmt: skip
    fields = {
        "image": "img", "question": "prompt", "steps_with_score": "steps", "step": "text", "score": "value",
        "num_mc_correct": "k", "num_mc_total": "n",
    }  # fmt: skip
    if form.startswith("flat"):
        steps = record.pop("steps")
        record |= {name: [step[name] for step in steps] for name in ("text", "value", "k", "n")}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([record]), path)
    (row,) = scan(path, fields=fields)
    (plain,) = scan(forms.write_form(tmp_path / "b", "jsonl", [{**GOOD, **step()}]))
    assert (row["reason"], row["scores"], row["mc_correct"]) == (None, [0.5, 0.0], [8, 0])
    assert row["question_id"] == plain["question_id"]


@pytest.mark.parametrize("kind", ["large", "dictionary", "float32", "fixed"])
def test_other_types_of_the_same_meaning_are_read(tmp_path: Path, kind: str) -> None:
    text = pa.large_string() if kind == "large" else pa.string()
    score = pa.float32() if kind == "float32" else pa.float64()
    steps = pa.struct([("step", text), ("score", score)])
    listed = {"large": pa.large_list(steps), "fixed": pa.list_(steps, 1)}.get(kind, pa.list_(steps))
    table = pa.table(
        {
            "image": pa.array(["a.png"] * 2, text),
            "question": pa.array(["What?"] * 2, text),
            "steps_with_score": pa.array([[{"step": "one", "score": 0.5}]] * 2, listed),
        }
    )
    if kind == "dictionary":
        table = table.set_column(1, "question", table["question"].dictionary_encode())
    pq.write_table(table, tmp_path / "a.parquet")
    rows = scan(tmp_path / "a.parquet")
    assert [(row["reason"], row["scores"]) for row in rows] == [(None, [0.5])] * 2


def test_a_file_with_no_known_column_is_rejected_row_by_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "a.parquet")
    assert [row["reason"] for row in scan(tmp_path / "a.parquet")] == ["no_image"] * 2
    assert [row["reason"] for row in scan(tmp_path / "a.parquet", "steps")] == ["no_rollout_id"] * 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"rollout_id": None}, "no_rollout_id"),
        ({"rollout_id": ""}, "no_rollout_id"),
        ({"step_index": -1}, "bad_step_index"),
        ({"step_index": None}, "bad_step_index"),
        ({"step_index": 0.5}, "bad_step_index"),
        ({"image": 5}, "no_image"),
        ({"question": 5}, "no_question"),
        ({"step": None}, "empty_step"),
        ({"step": "<prm>"}, "marker_in_text"),
        ({"score": None}, "bad_score"),
        ({"score": "1"}, "bad_score"),
        ({"score": None, "num_mc_correct": 4, "num_mc_total": 16}, None),
    ],
    ids=str,
)
def test_a_step_is_usable_or_has_a_reason(tmp_path: Path, fields: dict[str, Any], reason: str | None) -> None:
    record = {"rollout_id": "r", "step_index": 0, "step": "one", "score": 1.0, "image": "a.png",
              "question": "What?", **fields}  # fmt: skip
    rows = [
        {**scan(forms.write_form(tmp_path / "a", form, [record]), "steps")[0], "shard": "", "length": 0}
        for form in ("jsonl", "nested.parquet")
    ]
    assert rows[0] == rows[1]
    assert rows[1]["reason"] == reason


TEXT = st.sampled_from(["", " ", "x", "数", "\x1c", "a <prm>", None])
STEP = st.fixed_dictionaries(
    {"step": TEXT, "score": st.sampled_from([0.0, 0.5, 1.0, 1.5, float("nan"), None])}
)
ROW = st.fixed_dictionaries(
    {
        "image": TEXT,
        "question": TEXT,
        "question_orig": TEXT,
        "rollout_id": TEXT,
        "steps_with_score": st.none() | st.lists(st.none() | STEP, max_size=3),
    }
)


@given(st.lists(ROW, min_size=1, max_size=8))
def test_no_row_that_a_check_would_reject_is_free_of_doubt(rows: list[dict[str, Any]]) -> None:
    kind = pa.struct([("step", pa.string()), ("score", pa.float64())])
    schema = {name: pa.string() for name in ("image", "question", "question_orig", "rollout_id")}
    batch = record_rows(
        pa.RecordBatch.from_pylist(rows, pa.schema({**schema, "steps_with_score": pa.list_(kind)})),
        "rollouts",
        ReadOptions(),
    )
    convert = record_converter("rollouts", ReadOptions())
    for row, doubt in zip(batch.to_pylist(), doubtful(batch).tolist(), strict=True):
        try:
            reason = rollout_reason(convert(row))
        except ValueError:
            reason = "refused"
        assert doubt == (reason is not None)


def test_a_row_is_scored_as_the_line(tmp_path: Path, rollout: Callable[..., Any]) -> None:
    rng = np.random.default_rng(1)
    rows = [
        rollout(rng.choice([0.0, 0.25, 1 / 3, 1.0], rng.integers(1, 9)).tolist(), rollout_id=f"r{number}")
        for number in range(200)
    ]
    lines = scan(forms.write_form(tmp_path / "a", "jsonl", rows))
    for form in ("nested.parquet", "flat.parquet"):
        for line, row in zip(lines, scan(forms.write_form(tmp_path / "b" / "a", form, rows)), strict=True):
            same = line.keys() - {"spans", "shard", "offset", "length"}
            assert all(line[name] == row[name] for name in same)
