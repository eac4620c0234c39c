"""What a run may be told, and what it is told by default."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.runs import resolved

from bisieve.errors import UsageError
from ray_train.config import TrainConfig
from ray_train.config_io import add_options, read_config, to_toml
from ray_train.model.families import known_families


def test_the_defaults_have_the_papers_hyper_parameters() -> None:
    config = resolved()
    assert (config.learning_rate, config.weight_decay, config.warmup, config.epochs) == (1e-5, 0.05, 0.05, 1)
    assert (config.beta1, config.beta2, config.epsilon) == (0.9, 0.999, 1e-8)
    assert (config.global_batch, config.max_length, config.zero_stage) == (512, 8192, 0)
    assert config.gradient_checkpointing
    tiles = {name: config.max_tiles or family.tiles for name, family in known_families().items()}
    assert tiles == {"internvl": 6, "qwen2_5_vl": 1, "qwen3_vl": 1, "qwen3_5": 1, "gemma3": 1}
    assert (config.objective, config.label_threshold, config.rollout_weights) == ("hard", 0.0, "uniform")
    assert (config.evidence_weight, config.kappa_rate) == (0.05, 10.0)


@pytest.mark.parametrize(
    "argv",
    [
        ["--fraction", "0"],
        ["--fraction", "1.5"],
        ["--workers", "0"],
        ["--workers", "0-2"],
        ["--stuck-after", "-1"],
        ["--stuck-after", "inf"],
        ["--learning-rate", "inf"],
        ["--weight-decay", "inf"],
        ["--kappa-rate", "nan"],
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
        ["--alpha", "-0.1"],
        ["--threshold", "1"],
        ["--pair-share", "1.5", "--strategy", "paired"],
    ],
)
def test_a_value_that_no_run_can_have_is_refused(argv: list[str]) -> None:
    with pytest.raises(UsageError, match=argv[0].replace("--no-", "--")):
        resolved(*argv)


def test_a_selection_is_by_the_options_of_its_index_unless_others_are_given() -> None:
    assert resolved().ranking == {}
    asked = ["--strategy", "paired", "--alpha", "0.2", "--ties", "spread", "--all-negative", "drop"]
    wanted = {"strategy": "paired", "alpha": 0.2, "ties": "spread", "all_negative": "drop"}
    assert resolved(*asked).ranking == wanted
    assert resolved("--alpha", "auto", "--strategy", "index").ranking == {"alpha": "auto"}
    assert resolved("--pair-share", "0.5", "--threshold", "0").ranking == {
        "pair_share": 0.5,
        "threshold": 0.0,
    }
    for wrong in (["--alpha", "best"], ["--strategy", "pared"], ["--threshold", "auto"]):
        with pytest.raises((SystemExit, UsageError)):
            resolved(*wrong)
    with pytest.raises(UsageError, match=r"index, bis, .* as strategy; found pared; did you mean paired\?"):
        resolved("--strategy", "pared")


@pytest.mark.parametrize(
    "options", [{"alpha": 0.2}, {"alpha": "auto"}, {"strategy": "paired", "pair_share": 0.25}], ids=str
)
def test_options_of_a_selection_are_read_back_from_a_file(options: dict[str, Any], tmp_path: Path) -> None:
    config = replace(resolved(), **{name: str(value) for name, value in options.items()})
    (tmp_path / "config.toml").write_text(to_toml(config, "read back"))
    parser = argparse.ArgumentParser()
    add_options(parser, TrainConfig)
    again = read_config(TrainConfig, parser.parse_args(["--config", str(tmp_path / "config.toml")]))
    assert again.ranking == config.ranking == options


def test_a_run_goes_on_with_the_same_command_but_for_restart() -> None:
    assert resolved().resume_hint == "run the same command again"
    assert resolved("--restart").resume_hint == "run the same command again without --restart"


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
        resolved(*argv)
    config = resolved(*argv, *beside)
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config, "read back"))
    parser = argparse.ArgumentParser()
    add_options(parser, TrainConfig)
    assert read_config(TrainConfig, parser.parse_args(["--config", str(file)])) == config
    resolved(*beside)  # at its default it may be given anywhere
