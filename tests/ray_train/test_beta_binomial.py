"""A whole run towards counts, with weights: what lies beside its model, and how it is evaluated."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import Corpus
from safetensors.torch import load_file
from transformers import InternVLForConditionalGeneration

from bisieve.cut import read_cut
from bisieve.errors import TrainingError
from bisieve.index import open_index
from ray_train.card import read_card
from ray_train.config import EvaluateConfig, TrainConfig
from ray_train.evaluate import evaluate
from ray_train.launch import train


def write_weights(corpus: Corpus, file: Path, weight: Callable[[int], float]) -> str:
    """Weights of all rollouts; the name of their column."""
    ids = read_cut(open_index(corpus.index), 1.0).rows["rollout_id"]
    pq.write_table(pa.table({"rollout_id": ids, "trust": [weight(place) for place in range(len(ids))]}), file)
    return f"{file}:trust"


@pytest.fixture(scope="module")
def counted(
    ray_cluster: None, counted_corpus: Corpus, internvl: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainConfig:
    """The config of a finished run: two workers, ZeRO 3, a column of a file as weights."""
    from conftest import small_run

    folder = tmp_path_factory.mktemp("counted-run")
    weights = write_weights(counted_corpus, folder / "weights.parquet", lambda place: place % 3)
    options = small_run(counted_corpus, internvl, str(folder / "output")) | {
        "objective": "beta-binomial", "rollout_weights": weights, "zero_stage": 3, "global_batch": 16,
    }  # fmt: skip
    train(TrainConfig(**options))
    return TrainConfig(**options)


def test_a_trained_head_lies_beside_a_model_that_is_still_one_of_hugging_face(counted: TrainConfig) -> None:
    _, report = InternVLForConditionalGeneration.from_pretrained(counted.output, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    card = read_card(counted.output)
    assert card is not None
    head = load_file(Path(counted.output) / card["kappa"])
    assert set(head) == {"scale", "shift", "weight", "bias"}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in head.values())
    assert head["weight"].abs().max() > 1e-3, "the head has learned at ten times the rate of the others"
    assert card["metrics"]["weight"] > 0


def test_weights_that_moved_are_the_same_run_and_other_weights_another(
    counted: TrainConfig, counted_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = write_weights(counted_corpus, tmp_path / "moved.parquet", lambda place: 2 * (place % 3))
    train(replace(counted, rollout_weights=moved))
    assert "nothing to do" in capsys.readouterr().out
    others = write_weights(counted_corpus, tmp_path / "others.parquet", lambda place: place % 2)
    for options, named in (({"rollout_weights": others}, "weights"), ({"evidence_weight": 0.0}, "evidence")):
        with pytest.raises(TrainingError, match=rf"{named}.*--restart"):
            train(replace(counted, **options))


def test_an_evaluation_takes_the_risk_that_it_is_told_off_the_rewards(
    counted: TrainConfig, counted_corpus: Corpus, internvl: Path, tmp_path: Path
) -> None:
    rewards: dict[float, list[Any]] = {}
    for risk in (0.0, 0.5):
        config = EvaluateConfig(
            model=counted.output, benchmark=counted_corpus.benchmark, image_root=counted_corpus.images,
            output=str(tmp_path / f"{risk}"), risk=risk,
        )  # fmt: skip
        assert evaluate(config)["risk"] == risk
        lines = (tmp_path / f"{risk}" / "scores.jsonl").read_text().splitlines()
        rewards[risk] = [reward for line in lines for reward in json.loads(line)["rewards"]]
    assert all(low < mean for mean, low in zip(rewards[0.0], rewards[0.5], strict=True))
    assert all(0 < mean < 1 for mean in rewards[0.0])
    with pytest.raises(TrainingError, match=r"--risk; found no κ head at .*; leave out --risk"):
        evaluate(replace(config, model=str(internvl)))


def test_a_head_that_is_gone_is_an_error_of_the_evaluation(
    counted: TrainConfig, counted_corpus: Corpus, tmp_path: Path
) -> None:
    model = shutil.copytree(counted.output, tmp_path / "model", ignore=shutil.ignore_patterns("runs"))
    (model / "kappa.safetensors").unlink()
    config = EvaluateConfig(
        model=str(model), benchmark=counted_corpus.benchmark, image_root=counted_corpus.images,
        output=str(tmp_path / "report"),
    )  # fmt: skip
    with pytest.raises(TrainingError, match=r"the κ head of the model in .*kappa\.safetensors"):
        evaluate(config)
