"""`evaluate` gives the P(Yes) that transformers gives without bisieve, on checkpoints odd as the hub's."""

import json
from pathlib import Path

import pytest
import torch
from conftest import Corpus
from plain_rewards import load_plain

from ray_train.evaluation.benchmark import read_benchmark
from ray_train.evaluation.scorer import Scorer
from ray_train.model.backbone import load_backbone
from ray_train.model.prompt_format import FAMILY, format_of
from ray_train.model.publish import save_model

TOLERANCE = 1e-6


def check_rewards(folder: Path, corpus: Corpus) -> None:
    solutions = read_benchmark(corpus.benchmark)[:3]
    plain = load_plain(folder)
    expected = [
        plain.rewards(Path(corpus.images, one.images[0]), one.question, list(one.steps)) for one in solutions
    ]
    found = Scorer(str(folder), max_length=0, max_tiles=1).score(solutions, corpus.images)
    assert [len(one) for one in found] == [len(one.steps) for one in solutions]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=TOLERANCE)
    assert len({round(reward, 5) for one in found for reward in one}) > 1, "steps are told apart"


def test_the_checkpoint_and_a_model_published_from_it(
    hub_checkpoint: Path, corpus: Corpus, tmp_path: Path
) -> None:
    check_rewards(hub_checkpoint, corpus)

    backbone = load_backbone(str(hub_checkpoint), torch.float32)
    torch.manual_seed(1)
    weights = {name: noisy(tensor) for name, tensor in _learned(backbone.model)}
    family = backbone.family
    format = format_of(family, backbone.processor.tokenizer, 1, FAMILY)
    card = {
        "prompt_format": format.to_json(), "config": {"max_length": 4096},
        "run": "r", "identity": {"index": "i"},
    }  # fmt: skip
    save_model(backbone, weights, card, tmp_path)
    check_rewards(tmp_path, corpus)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == family.model_type


def noisy(tensor: torch.Tensor) -> torch.Tensor:
    """Return ``tensor`` a little changed where it holds weights, and not places."""
    return tensor + 0.01 * torch.randn_like(tensor) if tensor.is_floating_point() else tensor


def _learned(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Each weight that a run would write, as `gathered_weights` names them."""
    return [*model.named_parameters(), *model.named_buffers()]
