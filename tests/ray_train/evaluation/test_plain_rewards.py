"""`evaluate` gives the P(Yes) that transformers gives without bisieve, on checkpoints odd as the hub's."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.plain_rewards import load_plain
from support.small_corpus import Corpus

from ray_train.choices import FAMILY, PAPER_EVAL, RewardTokens
from ray_train.evaluation.benchmark import read_benchmark
from ray_train.evaluation.scorer import Scorer
from ray_train.model.backbone import load_backbone
from ray_train.model.prompt_format import format_of
from ray_train.model.save import save_model

TOLERANCE = 1e-6


def check_rewards(folder: Path, corpus: Corpus) -> None:
    solutions = read_benchmark(corpus.benchmark)[:3]
    plain = load_plain(folder)
    expected = [
        plain.rewards(Image.open(Path(corpus.images, one.images[0])), one.question, list(one.steps))
        for one in solutions
    ]
    check_equal(Scorer(str(folder), max_length=0, max_tiles=1).score(solutions, corpus.images), expected)


def check_equal(found: list[list[float]], expected: list[list[float]]) -> None:
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


def test_a_model_that_bisieve_did_not_train_is_read_at_its_own_marker_and_words(
    hub_checkpoint: Path, corpus: Corpus
) -> None:
    family = hub_checkpoint.name.partition("-")[0][:4]
    markers = {"Inte": "</ref>", "Qwen": "<|object_ref_end|>", "Gemm": "<mask>"}
    tokens = RewardTokens(markers[family], "+", "-")
    solutions = read_benchmark(corpus.benchmark, tokens.marker)[:3]
    plain = load_plain(hub_checkpoint, tokens.marker)
    expected = [
        plain.rewards(Image.open(Path(corpus.images, one.images[0])), one.question, list(one.steps), tokens)
        for one in solutions
    ]
    scorer = Scorer(str(hub_checkpoint), max_length=0, max_tiles=1, tokens=tokens)
    check_equal(scorer.score(solutions, corpus.images), expected)


def test_the_prompt_of_the_papers_evaluation_joins_steps_and_images(
    folder: Path, corpus: Corpus, tmp_path: Path
) -> None:
    sizes = [(40, 28), (28, 56), (28, 28), (20, 30)]
    colours = ["red", "green", "blue", "black"]
    grid = Image.new("RGB", (120, 112), "white")  # cells of 40 × 56, three in a row
    corners = [(0, 14), (46, 0), (86, 14), (10, 69)]
    for name, size, colour, corner in zip("abcd", sizes, colours, corners, strict=True):
        image = Image.new("RGB", size, colour)
        image.save(tmp_path / f"{name}.png")
        grid.paste(image, corner)
    solution = replace(
        read_benchmark(corpus.benchmark)[0],
        images=("a.png", "b.png", "c.png", "d.png"),
        question="<image1><image2>How many are <image3> and <image4>?",
    )
    expected = load_plain(folder).rewards(
        grid, "How many are  and ?", list(solution.steps), as_the_papers_evaluation=True
    )
    scorer = Scorer(str(folder), max_length=0, max_tiles=1, prompt=PAPER_EVAL)
    check_equal(scorer.score([solution], str(tmp_path)), [expected])


def noisy(tensor: torch.Tensor) -> torch.Tensor:
    """Return ``tensor`` a little changed where it holds weights, and not places."""
    return tensor + 0.01 * torch.randn_like(tensor) if tensor.is_floating_point() else tensor


def _learned(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Each weight that a run would write, as `gather_weights` names them."""
    return [*model.named_parameters(), *model.named_buffers()]
