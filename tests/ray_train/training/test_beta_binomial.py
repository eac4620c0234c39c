"""A whole run towards counts, with weights: what lies beside its model, and how it is evaluated."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from support.runs import check_learned_the_same, small_run
from support.small_corpus import Corpus
from transformers import InternVLForConditionalGeneration

from bisieve.errors import TrainingError
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from ray_train.choices import Workers
from ray_train.config import TrainConfig
from ray_train.evaluation.benchmark import read_benchmark
from ray_train.evaluation.config import EvaluateConfig
from ray_train.evaluation.evaluate import evaluate
from ray_train.evaluation.scorer import Scorer
from ray_train.model.metadata import read_card
from ray_train.training.driver import train


def write_weights(corpus: Corpus, file: Path, weight: Callable[[int], float]) -> str:
    """Weights of all rollouts; the name of their column."""
    ids = read_selection(open_index(corpus.index), 1.0).rows["rollout_id"]
    pq.write_table(pa.table({"rollout_id": ids, "trust": [weight(place) for place in range(len(ids))]}), file)
    return f"{file}:trust"


@pytest.fixture(scope="module")
def counted(
    ray_cluster: None, counted_corpus: Corpus, internvl: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainConfig:
    """The config of a finished run: two workers, ZeRO 3, a column of a file as weights."""
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


def test_one_worker_with_rows_learns_what_two_with_packs_learn(counted: TrainConfig, tmp_path: Path) -> None:
    output = str(tmp_path / "output")
    train(replace(counted, workers=Workers(1, 1), zero_stage=1, pack_tokens=0, output=output))
    check_learned_the_same(output, counted.output)
    ours, theirs = (load_file(Path(folder) / "kappa.safetensors") for folder in (output, counted.output))
    for name, tensor in theirs.items():
        assert (ours[name] - tensor).abs().mean() < 1e-3, name


def test_an_evaluation_takes_the_risk_that_it_is_told_off_the_rewards(
    counted: TrainConfig, counted_corpus: Corpus, internvl: Path, tmp_path: Path
) -> None:
    config = EvaluateConfig(
        model=counted.output, benchmark=counted_corpus.benchmark, image_root=counted_corpus.images,
        output=str(tmp_path / "report"), risk=0.5,
    )  # fmt: skip
    assert evaluate(config)["risk"] == 0.5
    lines = [json.loads(line) for line in (tmp_path / "report" / "scores.jsonl").read_text().splitlines()]
    solutions = read_benchmark(counted_corpus.benchmark)
    means = Scorer(counted.output, max_length=0, max_tiles=1).score(solutions, counted_corpus.images)
    for line, of_solution in zip(lines, means, strict=True):
        for cautious, mean in zip(line["rewards"], of_solution, strict=True):
            assert cautious < mean - 0.01
            assert 0 < mean < 1
    with pytest.raises(TrainingError, match=r"--risk; found no κ head at .*; leave out --risk"):
        evaluate(replace(config, model=str(internvl)))


def test_a_head_that_is_gone_is_an_error_of_the_evaluation(counted: TrainConfig, tmp_path: Path) -> None:
    model = shutil.copytree(counted.output, tmp_path / "model", ignore=shutil.ignore_patterns("runs"))
    (model / "kappa.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"the κ head of the model in .*kappa\.safetensors"):
        Scorer(str(model), max_length=0, max_tiles=1)
