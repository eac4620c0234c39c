import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisieve.records import model
from bisieve.records.decode import record_decoder
from bisieve.records.diagnosis import diagnose
from bisieve.records.model import rollout_reason
from bisieve.records.options import ReadOptions

USABLE = {"image": "a.png", "question": "What?", "steps_with_score": [{"step": "one", "score": 1.0}]}


def reason_of(line: bytes, source_field: str | None = None) -> str | None:
    """What a scan does with one line."""
    reading = ReadOptions(source_field=source_field)
    try:
        record = record_decoder("rollouts", reading)(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return diagnose(line, "rollouts", reading).reason
    return rollout_reason(record)


def step(**fields: Any) -> dict[str, Any]:
    record = {"step": "one", "score": 1.0, **fields}
    return {"steps_with_score": [{key: value for key, value in record.items() if value != "absent"}]}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"image": ["a.png", "b.png"]}, None),
        ({"image": None}, "no_image"),
        ({"image": ""}, "no_image"),
        ({"image": []}, "no_image"),
        ({"image": ["a.png", ""]}, "no_image"),
        ({"image": 5}, "no_image"),
        ({"question": None}, "no_question"),
        ({"question": "  \n"}, "no_question"),
        ({"question": 7}, "no_question"),
        ({"question": "", "question_orig": "What?"}, None),
        ({"question_orig": " "}, "no_question"),
        ({"question_orig": " ", **step(step=None)}, "no_question"),
        ({"steps_with_score": []}, "no_steps"),
        ({"steps_with_score": None}, "no_steps"),
        ({"steps_with_score": "one"}, "no_steps"),
        (step(step=""), "empty_step"),
        (step(step=" \u2003"), "empty_step"),
        (step(step=None), "empty_step"),
        (step(step="absent"), "empty_step"),
        (step(score=None), "bad_score"),
        (step(score="absent"), "bad_score"),
        (step(score="0.5"), "bad_score"),
        (step(score=True), "label_as_score"),
        (step(score=1.0001), "bad_score"),
        (step(score=-0.1), "bad_score"),
        (step(score=1), None),
        (step(step="two <prm> three"), "marker_in_text"),
        ({"question": "What is <prm>?"}, "marker_in_text"),
        (step(num_mc_correct="x", num_mc_total=-1), None),
        ({"rollout_id": 1.5}, "no_rollout_id"),
    ],
)
def test_a_rollout_is_usable_or_has_a_reason(fields: dict[str, Any], reason: str | None) -> None:
    assert reason_of(json.dumps({**USABLE, **fields}).encode()) == reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "bad_json"),
        (b"[]", "bad_json"),
        (b"5", "bad_json"),
        (json.dumps(USABLE).encode() + b" {}", "bad_json"),
        (json.dumps({**USABLE, "answer": float("nan")}).encode(), "bad_json"),
        (json.dumps({**USABLE, **step(score=float("nan"))}).encode(), "bad_score"),
        (json.dumps({**USABLE, **step(score=float("inf"))}).encode(), "bad_score"),
        (json.dumps(USABLE).replace("1.0", "1e999").encode(), "bad_score"),
        (json.dumps(USABLE).replace("one", "\xff").encode("latin-1"), "bad_json"),
        (json.dumps(USABLE).replace("one", "\\ud800").encode(), "bad_json"),
        (json.dumps(USABLE).replace("one", "\\u003c\\u0070rm>").encode(), "marker_in_text"),
        (b"[" * 100_000, "bad_json"),
    ],
)
def test_json_is_read_strictly(line: bytes, reason: str) -> None:
    assert reason_of(line) == reason


def test_the_source_field_must_be_there_and_be_text() -> None:
    assert reason_of(json.dumps({**USABLE, "set": "a"}).encode(), "set") is None
    assert reason_of(json.dumps({**USABLE, "set": 5}).encode(), "set") == "no_source"
    assert reason_of(json.dumps({**USABLE, "source": 5}).encode()) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELD = st.sampled_from(["image", "question", "question_orig", "steps_with_score", "rollout_id", "answer"])


@given(
    st.dictionaries(FIELD, JSON, max_size=4),
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "step": st.text(max_size=4) | JSON,
                "score": st.floats(0, 1) | JSON,
                "num_mc_total": JSON,
            },
        ),
        max_size=3,
    ),
)
def test_no_record_escapes_a_verdict(fields: dict[str, Any], steps: list[Any]) -> None:
    """Whatever a record holds, it is usable by the contract's words or it has a reason."""
    record = {**USABLE, "steps_with_score": steps, **fields}
    reason = reason_of(json.dumps(record).encode())
    scores = record["steps_with_score"]
    if reason is None:
        assert all(type(one["score"]) in (int, float) and 0 <= one["score"] <= 1 for one in scores)
        assert all(one["step"].strip() for one in scores)
        assert record["image"]
        assert scores
    else:
        assert reason in vars(model).values()


def test_counts_that_are_no_counts_are_left_out() -> None:
    decode = record_decoder("rollouts", ReadOptions())
    counted = decode(json.dumps({**USABLE, **step(num_mc_correct=3, num_mc_total=16)}).encode())
    uncounted = decode(json.dumps({**USABLE, **step(num_mc_correct="3", num_mc_total=16)}).encode())
    assert (counted.steps_with_score[0].num_mc_correct, uncounted.steps_with_score[0].num_mc_correct) == (
        3,
        None,
    )
