"""When a run stops, and what it leaves."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import torch.distributed as dist

from bisieve.errors import TrainingError
from ray_train.training.optimizer import DivergenceGuard, StepRecord, explodes, recent_norms

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def guard_at(folder: Path, rank: int = 0) -> DivergenceGuard:
    return DivergenceGuard(pa.chunked_array([["a", "b", "c", "d"]]), str(folder), 100.0, 1.0, rank)


def test_a_gradient_explodes_when_it_is_clipped_and_far_above_the_usual() -> None:
    usual = [0.5] * 10
    assert explodes(51.0, usual, 100, 1.0)
    assert not explodes(49.0, usual, 100, 1.0)
    assert not explodes(51.0, usual, 0, 1.0), "0 turns it off"
    assert not explodes(51.0, usual[1:], 100, 1.0), "too early to say what is usual"
    assert not explodes(0.9, [1e-6] * 10, 100, 1.0), "clipping would not touch it"


def test_the_usual_is_that_of_the_last_steps() -> None:
    earlier: list[float] = []
    for norm in [1000.0] * 60 + [1.0] * 30:
        earlier = recent_norms(norm, earlier)
    assert len(earlier) == 50
    assert explodes(150.0, earlier, 100, 1.0)


@pytest.mark.parametrize("loss", [NAN, INF, -INF])
def test_a_loss_that_is_no_number_stops_the_run_and_names_the_batch(
    loss: float, alone: None, tmp_path: Path
) -> None:
    watched = StepRecord(7, [3, 1, 0], [])
    watched.add(0.5, [3])
    watched.add(loss, [1])
    guard = guard_at(tmp_path)
    file = tmp_path / "stopped-at-step-7.json"
    guard.check_loss(0.5, watched)
    assert not file.exists()
    with pytest.raises(TrainingError, match=rf"a finite loss; found loss .* at step 7; .* in {file}"):
        guard.check_loss(loss, watched)
    assert json.loads(file.read_text()) == {
        "step": 7, "loss": str(loss), "rows": [3, 1, 0], "rollout_ids": ["d", "b", "a"], "suspects": ["b"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("norm", "expected"), [(INF, "a finite gradient"), (NAN, "a finite"), (1e6, "100 times")]
)
def test_a_gradient_that_is_no_number_or_explodes_stops_the_run(
    norm: float, expected: str, alone: None, tmp_path: Path
) -> None:
    watched, guard = StepRecord(12, [2], []), guard_at(tmp_path)
    guard.check_gradient(0.5, 2.0, [1.0] * 10, watched)
    with pytest.raises(TrainingError, match=expected):
        guard.check_gradient(0.5, norm, [1.0] * 10, watched)
    saved = json.loads((tmp_path / "stopped-at-step-12.json").read_text())
    assert saved["loss"] == 0.5
    assert saved["gradient_norm"] == (norm if math.isfinite(norm) else str(norm))
    assert saved["rollout_ids"] == ["c"]


def test_where_nothing_can_be_written_the_error_still_tells_the_rows(alone: None, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"its rows are \[3, 1\] .*could not be written"):
        guard_at(tmp_path / "file").check_loss(NAN, StepRecord(7, [3, 1], []))


def test_one_rank_alone_writes(alone: None, tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        guard_at(tmp_path, rank=1).check_loss(NAN, StepRecord(7, [3, 1], []))
    assert not list(tmp_path.iterdir())
