"""The options of a sweep come from a command line, from YAML, or from a program."""

import argparse
from pathlib import Path

import pytest

from bisieve.errors import UsageError
from ray_train.config_io import add_options, read_config, to_toml
from ray_train.sweeps.config import Options, SweepConfig

GIVEN = """
index: index
image-root: images
backbone: org/name
benchmark: benchmark.jsonl
output: output
strategies: [bis, random]
fractions: [5%, 0.25, 1]
alphas: [0.05, auto]
seeds: [0, 7]
train: {global-batch: 32, learning-rate: 1.0e-3, workers: 2}
"""


def parsed(*words: str) -> SweepConfig:
    parser = argparse.ArgumentParser()
    add_options(parser, SweepConfig)
    return read_config(SweepConfig, parser.parse_args(words))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(GIVEN)
    return path


def test_lists_and_tables_are_read_from_yaml(file: Path) -> None:
    config = parsed("--config", str(file))
    assert config.fractions == (0.05, 0.25, 1.0)
    assert config.alphas == ("0.05", "auto")
    assert config.seeds == (0, 7)
    assert config.train.given == {"global-batch": 32, "learning-rate": 1e-3, "workers": 2}


def test_lists_on_the_command_line_are_separated_by_commas_and_win(file: Path) -> None:
    config = parsed(
        "--config", str(file), "--fractions", "10%, 50%", "--seeds", "3", "--strategies", "random"
    )
    assert (config.fractions, config.seeds, config.strategies) == ((0.1, 0.5), (3,), ("random",))
    assert str(config.fractions) == "0.1,0.5"


def test_a_program_gives_lists_and_tables(file: Path) -> None:
    config = SweepConfig(
        index="i", image_root="r", backbone="b", benchmark="b.jsonl", output="o",
        fractions=["5%", 0.25], train={"epochs": 2},  # type: ignore[arg-type]
    )  # fmt: skip
    assert config.fractions == (0.05, 0.25)
    assert config.train == Options((("epochs", 2),))


def test_what_all_trials_share_may_be_in_a_file_of_its_own(file: Path, tmp_path: Path) -> None:
    (tmp_path / "train.toml").write_text("epochs = 3\n")
    config = parsed("--config", str(file), "--train", str(tmp_path / "train.toml"))
    assert config.train.given == {"epochs": 3}


def test_a_printed_config_is_read_as_the_same(file: Path, tmp_path: Path) -> None:
    config = parsed("--config", str(file))
    (tmp_path / "printed.toml").write_text(to_toml(config, "printed"))
    assert parsed("--config", str(tmp_path / "printed.toml")) == config


@pytest.mark.parametrize(
    "line",
    ["fractions: [0.1, 10%]", "fractions: []", "seeds: [1.5]", "seeds: [-1]", "strategies: [best]",
     "objectives: [softer]", "alphas: [low]", "fractions: [2]"],
)  # fmt: skip
def test_wrong_values_of_a_list_are_refused(file: Path, line: str) -> None:
    name = line.partition(":")[0]
    kept = "\n".join(each for each in GIVEN.splitlines() if not each.startswith(name))
    file.write_text(f"{kept}\n{line}\n")
    with pytest.raises(UsageError):
        parsed("--config", str(file))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--seeds", "0,one"), r"a seed, an integer from 0 to .*, in a list; found one"),
        (("--alphas", "0.05,large"), r"a number or index or auto in a list; found large"),
        (("--strategies", "bis,rnd"), r"found rnd; did you mean random\?"),
    ],
)
def test_a_wrong_value_in_a_list_is_named(file: Path, words: tuple[str, ...], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        parsed("--config", str(file), *words)
