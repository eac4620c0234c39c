"""A sweep whose trials are all finished reports on them, without Ray."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.small_corpus import Corpus

from bisieve.cli.main import main
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from ray_train.config_io import located, to_toml
from ray_train.evaluation.benchmark import read_benchmark
from ray_train.evaluation.scoring import digest
from ray_train.sweeps.config import Options, SweepConfig, Values
from ray_train.sweeps.grid import Trial, trials
from ray_train.sweeps.results import ANSWER, METRICS, ROWS, Finished, write_trial
from ray_train.sweeps.run import Shown, sweep

AUC, F1, BY_POSITION = 0.52, 0.8, {"auc": 0.545, "overall_f1": 0.7}
LEFT_OUT = 13


@pytest.fixture
def config(corpus: Corpus, internvl: Any, tmp_path: Path) -> SweepConfig:
    ids = read_selection(open_index(corpus.index), 1.0).rows["rollout_id"].to_pylist()
    (tmp_path / "ids.txt").write_text("\n".join(ids[:LEFT_OUT]))
    return SweepConfig(
        index=corpus.index, image_root=corpus.images, backbone=str(internvl), benchmark=corpus.benchmark,
        output=str(tmp_path / "output"), fractions=Values((0.25, 1.0)), metric="overall_f1",
        train=Options((("exclude", str(tmp_path / "ids.txt")),)),
    )  # fmt: skip


def result(trial: Trial) -> dict[str, Any]:
    """A result that depends on the seed alone."""
    noise = 0.001 * (trial.seed - 1)
    training = {"rollouts": 8, "optimizer_steps": 1, "mean_loss": 0.5, "seconds": 1.0}
    numbers = {**dict.fromkeys(METRICS, 0.5), "auc": AUC + noise, "overall_f1": F1 + noise}
    return {**numbers, "training": training, "evaluation_seconds": 1.0, "position_baseline": BY_POSITION}


def test_models_that_are_no_better_than_the_position_are_a_warning_by_another_metric_too(
    config: SweepConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = located(config)
    for trial in trials(config, open_index(config.index), digest(read_benchmark(config.benchmark))):
        write_trial(config.output, trial, result(trial))
    sweep(replace(config, dry_run=True))
    assert ", 0 to make" in capsys.readouterr().out  # so the next line starts no Ray
    found = sweep(config)
    assert found is not None
    assert found.answers[0].verdict == "enough"
    shown = capsys.readouterr().out
    assert "warning: all the data give an auc of 0.520 (0.5" in shown
    (row,) = [line.split() for line in shown.splitlines() if line.startswith("by position alone")]
    assert row[3:] == ["0.700"] * 2
    document = json.loads((tmp_path / "output" / ANSWER).read_bytes())
    assert document["by_position_alone"] == 0.7
    assert "not above the 0.545 of the position" in document["answers"][0]["warning"]
    rows = pq.read_table(tmp_path / "output" / ROWS).to_pylist()
    assert {each["available"] for each in rows} == {open_index(config.index).manifest.rollouts - LEFT_OUT}


def test_a_dry_run_prints_the_planned_trials_as_json(
    config: SweepConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = tmp_path / "sweep.toml"
    options.write_text(to_toml(config, "bisieve sweep"))
    command = ["sweep", "--config", str(options), "--dry-run", "--json"]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "6 to make" not in shown.out
    document = json.loads(shown.out)
    config = located(config)
    grid = trials(config, open_index(config.index), digest(read_benchmark(config.benchmark)))
    assert [each["id"] for each in document["trials"]] == [trial.id for trial in grid]
    assert not any(each["finished"] for each in document["trials"])
    assert (document["to_make"], document["seconds_left"]) == (len(grid), None)
    assert document["trials"][0] == {
        "id": grid[0].id, "strategy": "bis", "alpha": "0.05", "objective": "hard", "fraction": 0.25,
        "seed": 0, "epochs": 1, "rollouts": 7, "optimizer_steps": 1, "finished": False, "seconds": None,
    }  # fmt: skip
    assert document["trials"][2]["rollouts"] == document["available"] == 43 - LEFT_OUT
    assert not Path(config.output).exists()
    write_trial(config.output, grid[0], result(grid[0]))
    assert main(command) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["finished"] for each in document["trials"]] == [True] + [False] * (len(grid) - 1)
    # It took a second for a quarter of the corpus, and a second for its evaluation.
    assert [each["seconds"] for each in document["trials"][:3]] == [2.0, 2.0, 5.0]
    assert document["seconds_left"] == sum(each["seconds"] for each in document["trials"][1:])


def test_trials_that_have_begun_are_named_until_one_ends(
    config: SweepConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = located(config)
    first, second, *_ = trials(config, open_index(config.index), digest(read_benchmark(config.benchmark)))
    shown = Shown("auc", [], [first, second])
    shown.begun(first)
    shown(Finished(first, result(first)), 1)
    shown.begun(second)
    begun, ended = capsys.readouterr().out.splitlines()
    assert begun == f"training and evaluating {first.name}"
    assert ended.startswith(f"trial 1 of 2  {first.name}: auc 0.5")
