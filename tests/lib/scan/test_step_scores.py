"""Labels and counts of the steps layout are what they are in the rollouts layout, in lines and rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisieve.records.options import ReadOptions
from bisieve.scan import scan_step_split
from bisieve.scan.batches import ScanOptions
from bisieve.shards.listing import Split

STEP = {"rollout_id": "r", "step_index": 0, "image": "a.png", "question": "What?", "step": "one"}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("fields", "labels", "score", "counts", "reason"),
    [
        ({"score": True}, True, 1.0, (None, None), None),
        ({"score": False}, True, 0.0, (None, None), None),
        ({"score": True}, False, None, (None, None), "label_as_score"),
        ({"num_mc_correct": 3.0, "num_mc_total": 4.0}, False, 0.75, (3, 4), None),
        ({"num_mc_correct": 3.5, "num_mc_total": 4.0}, False, None, (None, None), "bad_score"),
    ],
)
def test_a_step_has_the_score_that_its_label_or_its_counts_say(
    write_jsonl: Callable[..., Path], tmp_path: Path, form: str,
    fields: dict[str, Any], labels: bool, score: float | None, counts: tuple[Any, Any], reason: str | None,
) -> None:  # fmt: skip
    path = tmp_path / f"a.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist([STEP | fields]), path)
    else:
        path = write_jsonl("a.jsonl", [STEP | fields])
    options = ScanOptions(0.05, reading=ReadOptions(labels_as_scores=labels))
    (row,) = (
        row for batch in scan_step_split(Split(str(path), 0, 10**9), options) for row in batch.to_pylist()
    )
    assert (row["score"], row["reason"]) == (score, reason)
    assert (row["mc_correct"], row["mc_total"]) == counts
