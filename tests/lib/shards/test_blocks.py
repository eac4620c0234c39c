"""Lines are read a block at a time where that can be done, and then give what one line at a time gives."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisieve.records.options import ReadOptions
from bisieve.scan import rollouts, steps
from bisieve.scan.batches import ScanOptions
from bisieve.shards.listing import Split

SCANS: dict[str, Callable[..., Any]] = {"rollouts": rollouts.scan_rollouts, "steps": steps.scan_steps}

SCORES = st.sampled_from([0.0, 1, 0.5, 0.1, 1.0, 1.5, -0.0, "0.5", None, True])
TEXTS = st.sampled_from(["x", "two\u2028lines", " x ", "", "\u3000", "a <prm> b", "é", "<image>"])
COUNTS = st.sampled_from([0, 3, 16, 17, None, -1, 2**31, 2**70, 1.0, "3", True])
STEP = {"step": TEXTS, "score": SCORES, "num_mc_correct": COUNTS, "num_mc_total": COUNTS}
PROMPT = {
    "image": st.sampled_from(["a.png", ["a.png", "b.png"], [], "", ["a.png", " "], 3, None]),
    "question": st.sampled_from(["What?", "<image>\nWhat?", "", None, 7, "a <prm>"]),
}
RARE = {
    "question_orig": st.sampled_from(["", "Which?", None]),
    "rollout_id": st.sampled_from(["r", "", 12, None, True]),
    "set": st.sampled_from(["s", " ", None, 4]),
}
GOOD_STEP = {"step": "x", "score": 0.5, "num_mc_correct": 8, "num_mc_total": 16}
GOOD: dict[str, dict[str, Any]] = {
    "rollouts": {"image": ["a.png"], "question": "What?", "steps_with_score": [GOOD_STEP], "set": "s"},
    "steps": {"rollout_id": "r", "step_index": 0, **GOOD_STEP, "image": "a.png", "question": "?", "set": "s"},
}


def one_odd(good: dict[str, Any], odd: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """``good`` with at most one field of ``odd``: most blocks must be read as a whole."""
    changes = [st.fixed_dictionaries({name: values}) for name, values in odd.items()]
    return st.one_of(st.just({}), *changes).map(lambda change: {**good, **change})


STEPS = st.lists(one_odd(GOOD_STEP, STEP), max_size=3)
RECORDS = {
    "rollouts": one_odd(GOOD["rollouts"], {**PROMPT, **RARE, "steps_with_score": STEPS}),
    "steps": one_odd(GOOD["steps"], {**PROMPT, **RARE, **STEP, "step_index": st.integers(-1, 3)}),
}
ODD_LINES = [b"", b" ", b"{}", b"[]", b'{"a": {}', b"}{", b'{"step": "x"}x']


def scanned(layout: str, path: Path, source_field: str | None) -> list[dict[str, Any]]:
    options = ScanOptions(0.05, reading=ReadOptions(source_field=source_field))
    batches = list(SCANS[layout](Split(str(path), 0, path.stat().st_size), options))
    return (
        sorted(pa.Table.from_batches(batches).to_pylist(), key=lambda row: row["offset"]) if batches else []
    )


def same_line_by_line(layout: str, path: Path, source_field: str | None = None) -> list[dict[str, Any]]:
    """The rows of ``path``, which do not depend on how it is read."""
    rows = scanned(layout, path, source_field)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollouts, "records_of", lambda *block: None)
        patch.setattr(steps, "records_of", lambda *block: None)
        assert scanned(layout, path, source_field) == rows
    return rows


@pytest.mark.parametrize("layout", SCANS)
@pytest.mark.parametrize("source_field", [None, "set"])
@given(data=st.data())
def test_a_block_gives_what_its_lines_give(
    tmp_path_factory: pytest.TempPathFactory, layout: str, source_field: str | None, data: st.DataObject
) -> None:
    records = data.draw(st.lists(RECORDS[layout], min_size=1, max_size=3))
    path = tmp_path_factory.getbasetemp() / "block.jsonl"
    path.write_bytes(b"\n".join(json.dumps(record, ensure_ascii=False).encode() for record in records))
    same_line_by_line(layout, path, source_field)


@pytest.mark.parametrize("layout", SCANS)
@pytest.mark.parametrize("odd", ODD_LINES, ids=repr)
def test_an_odd_line_is_one_reject_and_its_neighbours_are_none(
    layout: str, odd: bytes, tmp_path: Path
) -> None:
    good = json.dumps(GOOD[layout]).encode()
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([good, odd, good]) + b"\n")
    rows = same_line_by_line(layout, tmp_path / "a.jsonl")
    reasons = [row["reason"] for row in rows]
    assert [reasons[0], reasons[-1]] == [None, None]
    assert len(reasons) == 3 if odd.strip() else 2


@pytest.mark.parametrize("layout", SCANS)
@pytest.mark.parametrize("joint", [b" ", b"", b",", b'\n,"x": {\n'], ids=repr)
def test_records_that_share_a_line_or_go_on_over_its_end_are_bad_json(
    layout: str, joint: bytes, tmp_path: Path
) -> None:
    good = json.dumps(GOOD[layout]).encode()
    (tmp_path / "a.jsonl").write_bytes(good + joint + good + b"\n" + good + b"\n")
    rows = same_line_by_line(layout, tmp_path / "a.jsonl")
    assert rows[-1]["reason"] is None
    assert "bad_json" in [row["reason"] for row in rows]
    # A record over two lines and two records in one line: as many records as lines, and yet not one a line.
    (tmp_path / "b.jsonl").write_bytes(good[:-1] + b"\n}" + good + b"\n")
    assert {row["reason"] for row in same_line_by_line(layout, tmp_path / "b.jsonl")} == {"bad_json"}
