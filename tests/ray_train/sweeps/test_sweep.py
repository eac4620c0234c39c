"""A sweep makes each trial once, however often it is stopped, and keeps what all of them found."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray
from support.small_corpus import Corpus

from bisieve.cli.main import main
from bisieve.errors import TrainingError
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from ray_train.sweeps.config import Options, SweepConfig, Values
from ray_train.sweeps.results import ANSWER, PLOT, ROWS, TRIALS
from ray_train.sweeps.run import SweepResult, sweep

TRAIN = {
    "global-batch": 6, "pack-tokens": 200, "max-tiles": 1, "learning-rate": 1e-3, "system": "none",
    "gradient-checkpointing": False, "data-workers": 0,
}  # fmt: skip
ALL = 2 * (2 * 3)  # seeds × (strategies × fractions)


@pytest.fixture(scope="module")
def config(corpus: Corpus, internvl: Path, tmp_path_factory: pytest.TempPathFactory) -> SweepConfig:
    return SweepConfig(
        index=corpus.index, image_root=corpus.images, backbone=str(internvl), benchmark=corpus.benchmark,
        output=str(tmp_path_factory.mktemp("sweep") / "output"), fractions=Values((0.1, 0.25, 0.5)),
        seeds=Values((0, 1)), train=Options(tuple(TRAIN.items())),
    )  # fmt: skip


def trial_files(config: SweepConfig) -> dict[str, int]:
    """Return the trials that are finished, each with the time at which its file was written."""
    folder = Path(config.output, TRIALS)
    files = folder.glob("[!.]*.json") if folder.exists() else []
    return {file.name: file.stat().st_mtime_ns for file in files}


def written_options(config: SweepConfig, folder: Path) -> Path:
    """Write the options into a file; JSON is YAML."""
    file = folder / "sweep.yaml"
    given = ("index", "image_root", "backbone", "benchmark", "output", "fractions", "seeds")
    plain = {name: getattr(config, name) for name in given}
    file.write_text(json.dumps({**plain, "train": config.train.given}))
    return file


def killed_midway(config: SweepConfig, folder: Path) -> None:
    """Run ``bisieve sweep`` in another process on the Ray of the tests, and kill it after a few trials."""
    options = written_options(config, folder)
    command = [sys.executable, "-m", "bisieve", "sweep", "--config", str(options)]
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as driver:
        while len(trial_files(config)) < 2 and driver.poll() is None:
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def found(ray_cluster: None, config: SweepConfig, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A sweep that was killed after a few trials, then run to its end: what was kept, and the result."""
    killed_midway(config, tmp_path_factory.mktemp("options"))
    before = trial_files(config)
    return before, sweep(config)


def test_no_finished_trial_of_a_killed_sweep_is_made_again(
    found: tuple[dict[str, int], SweepResult], config: SweepConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    before, result = found
    assert 2 <= len(before) < ALL
    after = trial_files(config)
    assert len(after) == ALL
    assert before.items() <= after.items()
    assert result.trials == ALL
    again = sweep(config)
    assert again is not None
    assert again.numbers() == result.numbers()
    assert trial_files(config) == after
    assert f"sweep: {ALL} trials, {ALL} of them finished before" in capsys.readouterr().out


def test_processes_are_reused(found: Any, config: SweepConfig) -> None:
    """There are four at a time, in the sweep that was killed and in the one after it."""
    files = Path(config.output, TRIALS).glob("[!.]*.json")
    results = [json.loads(file.read_bytes())["result"] for file in files]
    processes = {result["process"] for result in results}
    assert len(processes) <= 2 * 4 < ALL
    assert sum(result["first_of_process"] for result in results) == len(processes)


def test_the_parquet_file_has_a_row_a_trial(found: Any, config: SweepConfig) -> None:
    table = pq.read_table(Path(config.output, ROWS))
    assert table.num_rows == ALL
    rows = table.to_pylist()
    assert {row["rollouts"] for row in rows if row["fraction"] == 0.5} == {15 + 6}
    assert {(row["strategy"], row["alpha"]) for row in rows} == {("bis", "0.05"), ("random", "")}
    assert all(0 <= row["auc"] <= 1 and row["available"] == 43 for row in rows)
    # Each seed draws another random selection, and has another order.
    assert len({row["mean_loss"] for row in rows if row["fraction"] == 0.5}) == 4


def test_answer_and_plot_are_beside_it(found: tuple[Any, SweepResult], config: SweepConfig) -> None:
    answer = json.loads(Path(config.output, ANSWER).read_bytes())
    assert answer == json.loads(json.dumps(found[1].numbers()))
    (of_hard,) = answer["answers"]
    assert of_hard["curve_through"] == [0.1, 0.25, 0.5]
    plot = json.loads(Path(config.output, PLOT).read_bytes())
    assert "vega-lite" in plot["$schema"]
    assert "all the data" in str(found[1].report())


def test_more_seeds_continue_a_sweep(found: Any, config: SweepConfig) -> None:
    before = trial_files(config)
    more = sweep(replace(config, seeds=Values((0, 1, 2)), strategies=Values(("random",))))
    assert more is not None
    assert [len(cell.values) for cell in more.cells] == [3, 3, 3]
    after = trial_files(config)
    assert before.items() <= after.items()
    assert len(after) == ALL + 3


def test_a_sweep_without_time_makes_no_trial(
    ray_cluster: None, config: SweepConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(replace(config, output=str(tmp_path / "other"), max_hours=1e-9)) is None
    shown = capsys.readouterr()
    assert f"{ALL} trials left for want of time" in shown.out
    assert "training and evaluating" not in shown.out + shown.err, "none has begun"


def test_trials_that_all_fail_end_the_sweep_with_the_error_of_one(
    ray_cluster: None, config: SweepConfig, tmp_path: Path
) -> None:
    nowhere = Options((*config.train.values, ("rollout-weights", f"{tmp_path}/none.parquet:weight")))
    with pytest.raises(
        TrainingError, match=r"trial \w.*%, hard, seed 0: .*none\.parquet.*other trials? failed"
    ):
        sweep(replace(config, output=str(tmp_path / "other"), train=nowhere))
    assert len(trial_files(replace(config, output=str(tmp_path / "other")))) == 0


def test_a_trial_of_two_workers_is_an_ordinary_training(
    found: Any, config: SweepConfig, tmp_path: Path
) -> None:
    """It takes as long as a training and an evaluation: their workers start."""
    two = Options((*config.train.values, ("workers", 2), ("zero-stage", 1)))
    with_two = replace(
        config, strategies=Values(("random",)), fractions=Values((0.5,)), seeds=Values((0,)), train=two,
        output=str(tmp_path / "other"),
    )  # fmt: skip
    result, same = sweep(with_two), sweep(replace(with_two, train=config.train, output=config.output))
    assert result is not None
    assert same is not None
    # The same batches in the same order: but for rounding the same model, as everywhere.
    assert result.cells[0].values == pytest.approx(same.cells[0].values, abs=0.02)
    assert sorted(file.name for file in Path(with_two.output).iterdir()) == [
        "sweep.json", "sweep.parquet", "sweep.vl.json", "trials",
    ]  # fmt: skip


def test_a_dry_run_lists_the_trials_and_writes_nothing(
    config: SweepConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(replace(config, output=str(tmp_path / "other"), dry_run=True)) is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["selection", "objective", "fraction", "seeds"]
    assert lines[1].split() == ["bis", "α", "0.05", "hard", "10%", "0,1", "0", "4", "1", "unknown"]
    shown = [int(line.split()[7]) for line in lines if line.startswith("bis ")]
    index = open_index(str(config.index))
    assert shown == [read_selection(index, fraction).rows.num_rows for fraction in config.fractions]
    assert "12 trials, 12 to make: as much training as 3.4 epochs of all 43 rollouts" in "\n".join(lines)
    assert list(tmp_path.iterdir()) == []


def test_the_time_of_a_dry_run_is_that_of_finished_trials(
    found: Any, config: SweepConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(replace(config, seeds=Values((0, 1, 2, 3)), dry_run=True))
    assert "as the finished ones took" in capsys.readouterr().out


def test_the_command_prints_the_same_as_json(
    found: Any, config: SweepConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = written_options(config, tmp_path)
    assert main(["sweep", "--config", str(options), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found[1].numbers()))
