"""Where the values of a run come from."""

import argparse
from pathlib import Path

import pytest

from bisieve.errors import BisieveError, UsageError
from ray_train.config import EvaluateConfig, TrainConfig, add_options, located, read_config
from ray_train.model.families import known_families
from ray_train.run.run_config import to_toml
from ray_train.workers import Workers

NEEDED = ["--index", "i", "--image-root", "r", "--backbone", "b", "--output", "o"]


def resolve(*argv: str) -> TrainConfig:
    parser = argparse.ArgumentParser()
    add_options(parser, TrainConfig)
    return read_config(TrainConfig, parser.parse_args([*NEEDED, *argv]))


def test_the_defaults_are_the_papers_recipe() -> None:
    config = resolve()
    assert (config.learning_rate, config.weight_decay, config.warmup, config.epochs) == (1e-5, 0.05, 0.05, 1)
    assert (config.beta1, config.beta2, config.epsilon) == (0.9, 0.999, 1e-8)
    assert (config.global_batch, config.max_length, config.zero_stage) == (512, 8192, 3)
    tiles = {name: config.max_tiles or family.tiles for name, family in known_families().items()}
    assert tiles == {"internvl": 6, "qwen2_5_vl": 1, "qwen3_vl": 1}
    assert (config.objective, config.label_threshold, config.rollout_weights) == ("hard", 0.0, "uniform")
    assert (config.evidence_weight, config.kappa_rate) == (0.05, 10.0)


def test_a_flag_overrides_the_file_and_the_file_overrides_the_default(tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text("learning_rate = 1\nseed = 7\nskip_missing_images = true\n")
    config = resolve("--config", str(file), "--seed", "9")
    assert (config.learning_rate, config.seed, config.skip_missing_images) == (1.0, 9, True)
    assert resolve("--config", str(file), "--no-skip-missing-images").skip_missing_images is False


def test_workers_are_a_number_or_a_range_on_the_command_line_and_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text("workers = 3\n")
    assert resolve("--config", str(file)).workers == Workers(3, 3)
    file.write_text("workers = '2-8'\n")
    assert resolve("--config", str(file)).workers == Workers(2, 8)
    assert resolve("--config", str(file), "--workers", "1-4").workers == Workers(1, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learnin_rate = 1.0", "found learnin_rate"),
        ("seed = 'one'", "value of type int for seed"),
        ("zero_stage = 4", r"one of \(1, 2, 3\) for zero_stage"),
        ("seed =", "TOML file"),
        ("workers = '8-2'", "workers in .*a range that falls"),
    ],
)
def test_a_file_that_is_wrong_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        resolve("--config", str(file))


@pytest.mark.parametrize(
    "argv",
    [
        ["--fraction", "0"],
        ["--fraction", "1.5"],
        ["--workers", "0"],
        ["--workers", "0-2"],
        ["--stuck-after", "-1"],
        ["--zero-stage", "1", "--offload", "optimizer"],
        ["--zero-stage", "2", "--offload", "parameters"],
        ["--keep-checkpoints", "0"],
        ["--storage-budget", "-1"],
        ["--global-batch", "-1"],
        ["--warmup", "2"],
        ["--beta1", "1"],
        ["--beta2", "-0.1"],
        ["--clip", "0"],
        ["--epsilon", "0"],
        ["--epsilon", "nan"],
        ["--weight-decay", "-1"],
        ["--label-threshold", "1"],
        ["--evidence-weight", "-0.1"],
        ["--kappa-rate", "0"],
        ["--rollout-weights", "weights.parquet"],
        ["--no-train-language", "--no-train-projector"],
        ["--pack-tokens", "-1"],
        ["--max-tiles", "-1"],
        ["--lora-rank", "-1"],
        ["--lora-rank", "8", "--no-train-language"],
        ["--lora-alpha", "0"],
        ["--lora-dropout", "1"],
        ["--seed", "-1"],
        ["--validation-fraction", "1"],
        ["--validate-every", "0"],
        ["--explode-above", "1"],
        ["--explode-above", "nan"],
        ["--peak-flops", "inf"],
        ["--mfu", "0"],
        ["--seed", "9223372036854775808"],
    ],
)
def test_a_value_that_no_run_can_have_is_refused(argv: list[str]) -> None:
    with pytest.raises(UsageError, match=argv[0].replace("--no-", "--")):
        resolve(*argv)


IDLE = [
    (["--evidence-weight", "0.1"], ["--objective", "beta-binomial"]),
    (["--kappa-rate", "3"], ["--objective", "beta-binomial"]),
    (["--lora-alpha", "8"], ["--lora-rank", "4"]),
    (["--lora-dropout", "0.1"], ["--lora-rank", "4"]),
    (["--micro-batch", "4"], ["--pack-tokens", "0"]),
    (["--validate-every", "10"], ["--validation-fraction", "0.1"]),
    (["--label-threshold", "0.5", "--objective", "soft"], ["--validation-fraction", "0.1"]),
]


@pytest.mark.parametrize(("argv", "beside"), IDLE, ids=lambda argv: argv[0])
def test_an_option_that_would_do_nothing_is_refused_and_what_it_needs_is_named(
    argv: list[str], beside: list[str], tmp_path: Path
) -> None:
    expected = rf"expected .*{beside[0]} .*beside {argv[0]}; found {argv[0]} .*leave out {argv[0]}"
    with pytest.raises(UsageError, match=expected):
        resolve(*argv)
    config = resolve(*argv, *beside)
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config, "read back"))
    parser = argparse.ArgumentParser()
    add_options(parser, TrainConfig)
    assert read_config(TrainConfig, parser.parse_args(["--config", str(file)])) == config
    resolve(*beside)  # at its default it may be given anywhere


def test_relative_paths_become_absolute_and_a_hub_id_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "config.json").touch()
    config = located(resolve("--backbone", "local", "--index", "s3://bucket/index"))
    assert config.backbone == f"file://{tmp_path}/local"
    assert (config.index, config.output) == ("s3://bucket/index", f"file://{tmp_path}/o")
    assert located(resolve("--backbone", "OpenGVLab/InternVL3-1B-hf")).backbone == "OpenGVLab/InternVL3-1B-hf"


@pytest.mark.parametrize("backbone", ["./gone", "/gone", "a/b/c", "empty"])
def test_a_backbone_that_is_not_there_is_found_out_at_once(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BisieveError, match="expected"):
        located(resolve("--backbone", backbone))


def test_what_must_be_given_is_named() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, EvaluateConfig)
    with pytest.raises(UsageError, match="--benchmark"):
        read_config(EvaluateConfig, parser.parse_args(["--model", "m"]))
