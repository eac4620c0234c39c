"""Equal seeds, equal bits."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support import reference

from bisieve.errors import TrainingError
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from ray_train.checkpoints.run_dir import store_selection
from ray_train.config import TrainConfig
from ray_train.data.encode import Sample, filler, make_encoder
from ray_train.model.backbone import load_backbone
from ray_train.model.prompt_format import PromptFormat
from ray_train.model.reward import reward_loss, reward_model
from ray_train.training.plan import chosen_index, chosen_selection, config_of_workers
from ray_train.training.worker import Job, fix_seeds, make_deterministic, selection_of


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The mode, left again."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    make_deterministic()
    yield
    torch.use_deterministic_algorithms(False)


def three_steps(folder: Path, seed: int) -> list[torch.Tensor]:
    """All weights after three steps with dropout."""
    torch.rand(7)  # whatever was drawn before
    backbone = load_backbone(str(folder), torch.float32)
    for module in backbone.model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    slot = backbone.family.image_slot(backbone.processor.tokenizer)
    format = PromptFormat(slot, backbone.family.image_options(1))
    images = filler().images
    samples = [Sample(row, images, f"What is {row}?", ["It is 3.", "No."], [1.0, 0.0]) for row in range(3)]
    batch = make_encoder(backbone, format, 8192).encode(samples)
    model = reward_model(backbone, format).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for step in range(3):
        fix_seeds(seed, 0, step)
        optimizer.zero_grad()
        reward_loss(model(batch.inputs), batch.labels, batch.weights).backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def test_two_runs_in_deterministic_mode_end_with_the_same_bits(deterministic: None, internvl: Path) -> None:
    first, second, other = (three_steps(internvl, seed) for seed in (0, 0, 1))
    assert all(map(torch.equal, first, second))
    assert not all(map(torch.equal, first, other)), "nothing was drawn, so nothing was shown"


def test_deterministic_mode_refuses_an_operation_that_cannot_be(deterministic: None) -> None:
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    with pytest.raises(RuntimeError, match="deterministic"):
        torch.zeros(2).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))


def test_all_random_streams_follow_the_key() -> None:
    def drawn(*key: int) -> tuple[float, float, float]:
        fix_seeds(*key)
        return random.random(), float(np.random.random()), float(torch.rand(()))

    assert drawn(0, 1, 5) == drawn(0, 1, 5)
    assert not set(drawn(0, 1, 5)) & set(drawn(0, 1, 6))
    assert not set(drawn(0, 1, 5)) & set(drawn(0, 0, 5))
    assert drawn(2**63 - 1, 0, 0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha": "auto"},
        {"strategy": "paired", "pair_share": "0.5", "ties": "spread"},
        {"strategy": "random", "all_negative": "drop"},
        {"exclude": "ids.txt"},
    ],
    ids=str,
)
def test_a_worker_reads_the_selection_of_the_driver_and_ranks_nothing(
    options: dict[str, str], score: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=5, sizes={"big": 250, "small": 7})
    score(tmp_path / "corpus", tmp_path / "index")
    output = str(tmp_path / "output")
    monkeypatch.chdir(tmp_path)
    ids = read_selection(open_index(str(tmp_path / "index")), 0.1).rows["rollout_id"].to_pylist()
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    config = TrainConfig(
        index=str(tmp_path / "index"), image_root="i", backbone="b", output=output, fraction=0.4, **options
    )  # fmt: skip
    index = chosen_index(config)
    selection = chosen_selection(config)
    sent = config_of_workers(config, index, selection)
    starts = []
    for _ in range(2):
        store_selection(sent, index, chosen_selection(sent))
        starts.append([path.read_bytes() for path in tmp_path.glob("output/*")])
    assert starts[0] == starts[1]
    is_of_index = selection.parameters == index.manifest.parameters and not selection.left_out.rollouts
    assert len(starts[0]) == (not is_of_index)
    assert bool(selection.left_out.rollouts) == ("exclude" in options)
    score(tmp_path / "corpus", tmp_path / "index", threshold=0.5)  # published before the worker starts
    assert chosen_index(config).fingerprint != index.fingerprint

    def job(fingerprint: str) -> Job:
        plan: Any = SimpleNamespace(selection_fingerprint=fingerprint)
        return Job(sent, plan, {}, {}, np.ones(selection.rows.num_rows), None)

    monkeypatch.setattr("bisieve.index.selection.best_of_unranked", None)
    made = selection_of(job(selection.fingerprint))
    assert made.rows.equals(selection.rows)
    assert (made.fingerprint, made.parameters) == (selection.fingerprint, selection.parameters)
    assert (made.available, made.shards) == (selection.available, selection.shards)
    with pytest.raises(TrainingError, match="the selection that the run was started with"):
        selection_of(job("another"))
    for path in tmp_path.glob("output/*"):
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(TrainingError, match="found a damaged file; start the run again"):
            selection_of(job(selection.fingerprint))
