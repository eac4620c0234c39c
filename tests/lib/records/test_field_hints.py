"""Records of other tools get the options that read them."""

from typing import Any

import pyarrow as pa
import pytest

from bisieve.records.field_hints import merged, sample_of, suggested_options
from bisieve.records.options import ReadOptions

PROMPT = {"image": "a.png", "question": "What?"}
OURS = {"step": "one", "score": 1.0}
THEIRS = {"text": "one", "label": True}


def steps(*some: dict[str, Any]) -> dict[str, Any]:
    return {"steps_with_score": list(some)}


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("nothing is missing", {**PROMPT, **steps(OURS)}, ""),
    ("no steps show", {"text": "one", "label": 1.0, **PROMPT}, ""),
    (
        "TRL's lists",
        {"prompt": "What?", "completions": ["one"], "labels": [0.5], "image": "a.png"},
        "--field question=prompt --field step=completions --field score=labels",
    ),
    (
        "lists, with several images",
        {"problem": "What?", "steps": ["one"], "scores": [1], "images": ["a.png"]},
        "--field image=images --field question=problem --field step=steps --field score=scores",
    ),
    (
        "a struct of lists",
        {**PROMPT, "steps": {"step": ["one"], "score": [0.5]}},
        "--field steps_with_score=steps",
    ),
    (
        "names inside steps",
        {**PROMPT, "trace": [THEIRS]},
        "--field steps_with_score=trace --field step=text --field score=label --labels-as-scores",
    ),
    ("a name inside steps", {**PROMPT, **steps({"step": "a", "value": 0})}, "--field score=value"),
    ("a question alone", {"image": "a.png", "prompt": "?", **steps(OURS)}, "--field question=prompt"),
    ("question_orig is one", {"image": "a.png", "prompt": "?", "question_orig": "?", **steps(OURS)}, ""),
    (
        "a record a step",
        {**PROMPT, "id": "r", "step_id": 0, "text": "one", "label": False},
        "--field rollout_id=id --field step_index=step_id --field step=text --field score=label "
        "--labels-as-scores",
    ),
    ("counts are a score", {**PROMPT, **steps({"step": "a", "num_mc_correct": 1, "num_mc_total": 2})}, ""),
    ("a number of steps is none", {**PROMPT, "steps": 3, "labels": [1]}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("record", "options"), [pytest.param(*rest, id=name) for name, *rest in CASES])
def test_missing_fields_are_found_by_name_and_kind(record: dict[str, Any], options: str) -> None:
    assert suggested_options(record, ReadOptions()) == options


@pytest.mark.parametrize(("record", "options"), [pytest.param(*rest, id=name) for name, *rest in CASES])
def test_columns_get_the_same_options_as_records(record: dict[str, Any], options: str) -> None:
    columns = pa.Table.from_pylist([record]).schema
    assert suggested_options(sample_of(columns), ReadOptions()) == options


def test_options_that_were_given_are_not_suggested_again() -> None:
    record = {"image": "a.png", "prompt": "What?", "completions": ["one"], "labels": [True]}
    given = ReadOptions(fields={"question": "prompt", "step": "completions"}, labels_as_scores=True)
    assert suggested_options(record, given) == "--field score=labels"


def test_fields_that_are_empty_at_first_are_taken_from_later_records() -> None:
    records = [{"steps": [], "image": None}, {"steps": ["one"], "image": "a.png"}, {"image": "b.png"}]
    assert merged(records) == {"steps": ["one"], "image": "a.png"}
