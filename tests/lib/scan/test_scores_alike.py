"""A step's score and counts mean the same in every layout, form and format."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support import forms

from bisieve.records.options import ReadOptions
from bisieve.scan import scan_rollout_split, scan_step_split
from bisieve.scan.batches import ScanOptions
from bisieve.scan.group_steps import assemble_unsorted
from bisieve.shards.listing import Split

FORMS = (
    "jsonl",
    "flat.jsonl",
    "lists.jsonl",
    "nested.parquet",
    "flat.parquet",
    "lists.parquet",
    *forms.STEPS,
)
COUNTS = {"num_mc_correct": 1, "num_mc_total": 4}
# What a step has, what its rollout becomes, and what that is with --labels-as-scores.
CASES: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "counts alone": (COUNTS, (0.25, 1, 4), ...),
    "counts and no score": ({"score": None, **COUNTS}, (0.25, 1, 4), ...),
    "integral floats": ({"num_mc_correct": 3.0, "num_mc_total": 4.0}, (0.75, 3, 4), ...),
    "a score beside them": ({"score": 0.5, "num_mc_correct": 3.0, "num_mc_total": 4.0}, (0.5, 3, 4), ...),
    "true": ({"score": True}, "label_as_score", (1.0, None, None)),
    "false": ({"score": False}, "label_as_score", (0.0, None, None)),
    "a label and counts": ({"score": True, **COUNTS}, "label_as_score", (1.0, 1, 4)),
    "half a count": ({"num_mc_correct": 1.5, "num_mc_total": 4.0}, "bad_score", ...),
    "none of none": ({"num_mc_correct": 0, "num_mc_total": 0}, "bad_score", ...),
    "more than all": ({"num_mc_correct": 5, "num_mc_total": 4}, "bad_score", ...),
    "K without N": ({"num_mc_correct": 1}, "bad_score", ...),
    "labels as counts": ({"num_mc_correct": True, "num_mc_total": True}, "bad_score", ...),
    "above 1": ({"score": 1.5}, "bad_score", ...),
    "below 0": ({"score": -0.5, **COUNTS}, "bad_score", ...),
    "text": ({"score": "0.5"}, "bad_score", ...),
}  # fmt: skip


def scan(path: Path, form: str, labels_as_scores: bool) -> dict[str, Any]:
    split = Split(str(path), 0, 10**9)
    options = ScanOptions(0.05, reading=ReadOptions(labels_as_scores=labels_as_scores))
    if form.startswith("steps"):
        steps = pa.Table.from_batches(list(scan_step_split(split, options)))
        batches = list(assemble_unsorted(steps, options))
    else:
        batches = list(scan_rollout_split(split, options))
    (row,) = pa.Table.from_batches(batches).to_pylist()
    return dict(row)


@pytest.mark.parametrize("labels", [False, True], ids=["", "labels as scores"])
@pytest.mark.parametrize("case", CASES)
def test_every_form_tells_the_same(tmp_path: Path, case: str, labels: bool) -> None:
    step, expected, with_labels = CASES[case]
    expected = with_labels if labels and with_labels is not ... else expected
    steps = [{"step": "one", **step}]
    record = {"rollout_id": "r", "image": "a.png", "question": "What?", "steps_with_score": steps}
    for form in FORMS:
        row = scan(forms.write_form(tmp_path / form, form, [record]), form, labels)
        counts = [None if row[name] is None else row[name][0] for name in ("mc_correct", "mc_total")]
        found = row["reason"] or (row["scores"][0], *counts)
        assert found == expected, form
