"""Evaluation on a real Ray: a model gives the same rewards after it was saved, and says what it is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.small_corpus import Corpus

from bisieve.errors import ImageError, StorageError, TrainingError
from ray_train.choices import RewardTokens
from ray_train.evaluation.benchmark import read_benchmark
from ray_train.evaluation.config import EvaluateConfig
from ray_train.evaluation.evaluate import evaluate
from ray_train.evaluation.scorer import Scorer
from ray_train.model.backbone import load_backbone
from ray_train.model.metadata import read_card
from ray_train.model.prompt_format import format_of
from ray_train.model.reward import reward_model
from ray_train.model.save import publish_model
from ray_train.registry.promote import evaluated, promote


def test_saved_and_loaded_weights_give_equal_rewards(internvl: Path, corpus: Corpus, tmp_path: Path) -> None:
    solutions = read_benchmark(corpus.benchmark)
    untrained = Scorer(str(internvl), max_length=0, max_tiles=1)
    before = untrained.score(solutions, corpus.images)
    backbone = load_backbone(str(internvl), torch.float32)
    format = format_of(backbone.family, backbone.processor.tokenizer, 1, "family")
    model = reward_model(backbone, format)
    card = {
        "prompt_format": format.to_json(),
        "config": {"max_length": 2048},
        "run": "r",
        "identity": {"index": "i"},
    }
    publish_model(backbone, dict(model.backbone.state_dict()), card, str(tmp_path / "model"))
    assert read_card(str(tmp_path / "model")) == card
    after = Scorer(str(tmp_path / "model"), max_length=0, max_tiles=6).score(solutions, corpus.images)
    for old, new in zip(before, after, strict=True):
        assert old == pytest.approx(new, abs=1e-6)


def test_a_reward_does_not_depend_on_what_else_is_in_the_batch(internvl: Path, corpus: Corpus) -> None:
    solutions = read_benchmark(corpus.benchmark)
    scorer = Scorer(str(internvl), max_length=0, max_tiles=1)
    together = scorer.score(solutions, corpus.images)
    for solution, rewards in zip(solutions[:4], together, strict=False):
        assert scorer.score([solution], corpus.images)[0] == pytest.approx(rewards, abs=1e-5)


def test_steps_that_do_not_fit_get_no_reward(internvl: Path, corpus: Corpus) -> None:
    solutions = read_benchmark(corpus.benchmark)
    whole = Scorer(str(internvl), max_length=0, max_tiles=1).score(solutions[:2], corpus.images)
    selection = Scorer(str(internvl), max_length=48, max_tiles=1).score(solutions[:2], corpus.images)
    for all_steps, some in zip(whole, selection, strict=True):
        assert len(some) < len(all_steps)
        assert some == pytest.approx(all_steps[: len(some)], abs=1e-5)


def test_workers_score_what_one_process_scores_and_the_report_is_written(
    internvl: Path, corpus: Corpus, tmp_path: Path, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    images = str(tmp_path / "images")
    shutil.copytree(corpus.images, images)
    Image.new("RGBA", (31, 28), (0, 0, 0, 0)).save(f"{images}/3.png")  # of solutions 3, 13 and 23
    config = EvaluateConfig(
        model=str(internvl), benchmark=corpus.benchmark, image_root=images,
        output=str(tmp_path / "report"), batch=5, max_tiles=1,
    )  # fmt: skip
    numbers = evaluate(config)
    solutions = read_benchmark(corpus.benchmark)
    expected = Scorer(str(internvl), max_length=0, max_tiles=1).score(solutions, images)
    lines = [json.loads(line) for line in (tmp_path / "report" / "scores.jsonl").read_text().splitlines()]
    for line, rewards in zip(lines, expected, strict=True):
        assert line["rewards"] == pytest.approx(rewards, abs=1e-5)
    assert json.loads((tmp_path / "report" / "metrics.json").read_text()) == numbers
    assert evaluated(str(tmp_path / "report")).bounds == numbers["lower_bounds"]
    assert numbers["trained"] is False
    assert numbers["steps"] + numbers["calibration_steps"] == 2 * 24
    shown = capsys.readouterr().out
    assert "transparent images on a white background: 3 (counted per use)" in shown.splitlines()
    assert "\n    not trained by bisieve: no bisieve.json beside it\n" in shown
    assert "note: <prm> is not a token of this model, which was not trained to judge at it" in shown
    asked = ("prompt", "threshold_on", "marker", "positive", "negative")
    assert [numbers[name] for name in asked] == ["training", "calibration", "<prm>", "Yes", "No"]
    assert "even" in shown


def test_what_was_asked_of_a_model_that_bisieve_did_not_train_is_done_recorded_and_not_promoted_by(
    internvl: Path, corpus: Corpus, tmp_path: Path, ray_cluster: None
) -> None:
    config = EvaluateConfig(
        model=str(internvl), benchmark=corpus.benchmark, image_root=corpus.images, output=str(tmp_path / "m"),
        batch=12, max_tiles=1, marker="Yes", positive="The", negative="No", prompt="paper-eval",
        threshold="test",
    )  # fmt: skip
    numbers = evaluate(config)
    recorded = ("marker", "positive", "negative", "prompt", "threshold_on", "calibration_steps", "run")
    assert [numbers[name] for name in recorded] == ["Yes", "The", "No", "paper-eval", "test", 0, None]
    assert numbers["steps"] == 2 * 24
    scorer = Scorer(str(internvl), 0, 1, tokens=RewardTokens("Yes", "The", "No"), prompt="paper-eval")
    expected = scorer.score(read_benchmark(corpus.benchmark), corpus.images)
    lines = [json.loads(line) for line in (tmp_path / "m" / "scores.jsonl").read_text().splitlines()]
    for line, rewards in zip(lines, expected, strict=True):
        assert line["rewards"] == pytest.approx(rewards, abs=1e-5)
    asked: dict[str, bool] = {}
    for flag in ("--untrained", "--paper-eval"):
        with pytest.raises(TrainingError, match=f"give {flag} to promote"):
            promote(str(internvl), config.output, str(tmp_path / "current.json"), **asked)
        asked[flag.removeprefix("--").replace("-", "_")] = True
    assert ", the first" in promote(str(internvl), config.output, str(tmp_path / "current.json"), **asked)


def test_an_image_that_cannot_be_read_ends_the_evaluation_with_its_name(
    ray_cluster: None, internvl: Path, corpus: Corpus, tmp_path: Path
) -> None:
    shutil.copytree(corpus.images, tmp_path / "images")
    (tmp_path / "images/3.png").write_bytes(b"no image")
    config = EvaluateConfig(
        model=str(internvl), benchmark=corpus.benchmark, image_root=str(tmp_path / "images"),
        output=str(tmp_path / "metrics"), batch=8,
    )  # fmt: skip
    with pytest.raises(ImageError, match=r"can be decoded in 3\.png"):
        evaluate(config)
    assert not (tmp_path / "metrics").exists()


def test_so_does_one_that_the_processor_does_not_take(qwen: Path, corpus: Corpus, tmp_path: Path) -> None:
    Image.new("RGB", (4100, 10)).save(tmp_path / "0.png")
    solution = replace(read_benchmark(corpus.benchmark)[0], images=("0.png",))
    with pytest.raises(ImageError, match=r"accepts as 0\.png of line 1; found absolute aspect"):
        Scorer(str(qwen), 0, 0).score([solution], str(tmp_path))


def test_an_output_that_cannot_be_is_found_out_before_the_benchmark_is_read(
    internvl: Path, corpus: Corpus, tmp_path: Path
) -> None:
    config = EvaluateConfig(
        model=str(internvl), benchmark="/nowhere", image_root=corpus.images, output=corpus.benchmark
    )
    with pytest.raises(StorageError, match="expected a folder at"):
        evaluate(config)


def test_a_missing_benchmark_image_is_named_before_anything_starts(
    internvl: Path, corpus: Corpus, tmp_path: Path
) -> None:
    config = EvaluateConfig(
        model=str(internvl),
        benchmark=corpus.benchmark,
        image_root=str(tmp_path),
        output=str(tmp_path / "report"),
    )
    with pytest.raises(ImageError, match=r"10 missing, such as 0\.png; correct --image-root or --benchmark"):
        evaluate(config)
    assert not (tmp_path / "report").exists()
