"""Where the values of a run come from."""

import argparse
from pathlib import Path

import pytest
from support.runs import resolved

from bisieve.cli.parser import add_command
from bisieve.errors import BisieveError, UsageError
from ray_train.choices import Workers
from ray_train.cli import evaluate
from ray_train.config_io import add_options, located, read_config
from ray_train.evaluation.config import EvaluateConfig


def test_a_flag_overrides_the_file_and_the_file_overrides_the_default(tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text("learning_rate = 1\nseed = 7\nskip_missing_images = true\n")
    config = resolved("--config", str(file), "--seed", "9")
    assert (config.learning_rate, config.seed, config.skip_missing_images) == (1.0, 9, True)
    assert resolved("--config", str(file), "--no-skip-missing-images").skip_missing_images is False


def test_workers_are_a_number_or_a_range_on_the_command_line_and_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text("workers = 3\n")
    assert resolved("--config", str(file)).workers == Workers(3, 3)
    file.write_text("workers = '2-8'\n")
    assert resolved("--config", str(file)).workers == Workers(2, 8)
    assert resolved("--config", str(file), "--workers", "1-4").workers == Workers(1, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learnin_rate = 1.0", "found learnin_rate"),
        ("seed = 'one'", "value of type int for seed"),
        ("zero_stage = 4", r"neither auto nor one of 1, 2 and 3: 4"),
        ("seed =", "TOML file"),
        ("clip = nan", "a finite number for --clip"),
        ("workers = '8-2'", "workers in .*a range whose end is below its start"),
    ],
)
def test_a_file_that_is_wrong_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        resolved("--config", str(file))


def test_relative_paths_become_absolute_and_a_hub_id_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "config.json").touch()
    config = located(resolved("--backbone", "local", "--index", "s3://bucket/index"))
    assert config.backbone == f"file://{tmp_path}/local"
    assert (config.index, config.output) == ("s3://bucket/index", f"file://{tmp_path}/o")
    hub_id = "OpenGVLab/InternVL3-1B-hf"
    assert located(resolved("--backbone", hub_id)).backbone == hub_id


def test_what_must_be_given_is_named() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, EvaluateConfig)
    with pytest.raises(UsageError, match="expected --image-root, --output, --benchmark; found nothing"):
        read_config(EvaluateConfig, parser.parse_args(["--model", "m"]))
    all_but_one = ["--model", "m", "--output", "o", "--benchmark", "b"]
    with pytest.raises(UsageError, match=r"expected --image-root .URL below which .*; found nothing"):
        read_config(EvaluateConfig, parser.parse_args(all_but_one))


def test_an_option_of_the_command_is_no_key_of_a_file(tmp_path: Path) -> None:
    parser, file = argparse.ArgumentParser(), tmp_path / "train.toml"
    add_command(parser, evaluate)
    file.write_text("quiet = true\n")
    with pytest.raises(UsageError, match="found quiet; give --quiet on the command line"):
        read_config(EvaluateConfig, parser.parse_args(["--config", str(file)]))


@pytest.mark.parametrize("backbone", ["./gone", "/gone", "a/b/c", "empty"])
def test_a_backbone_that_is_not_there_is_found_out_at_once(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BisieveError, match="expected"):
        located(resolved("--backbone", backbone))
