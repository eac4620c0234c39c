"""Trackers: what they are told arrives, a resumed run goes on, and what fails stops nothing but the start."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.event_files import scalars

from bisieve.errors import StorageError, TrainingError, UsageError
from ray_train.choices import chosen_trackers
from ray_train.config import TrainConfig
from ray_train.tracking import base
from ray_train.tracking.base import Run, Trackers, TrackerThread
from ray_train.tracking.mlflow import MLflow
from ray_train.training.driver import train

SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    params = {"learning_rate": 1e-3, "checkpoint_every": 2, "backbone": "s3://models/one"}
    return Run("abc-1", f"file://{tmp_path}", 0, params, {"index": "f1"}, lambda line: None)


def tracked(name: str, run: Run, steps: range, finished: bool) -> None:
    all_trackers = Trackers()
    all_trackers.start(name, run)
    for step in steps:
        all_trackers.add(step, {"loss": 1 / step, "mfu": 0.5})
    all_trackers.commit()
    all_trackers.close(finished)


def test_tensorboard_shows_a_resumed_run_as_one(run: Run, tmp_path: Path) -> None:
    tracked("tensorboard", run, range(1, 5), finished=False)
    tracked("tensorboard", replace(run, first_step=2), range(3, 7), finished=True)
    found = scalars(tmp_path / "tensorboard" / "abc-1")
    assert found["loss"] == pytest.approx({step: 1 / step for step in range(1, 7)})
    text = b"".join(file.read_bytes() for file in (tmp_path / "tensorboard" / "abc-1").iterdir())
    assert b"learning_rate = 0.001" in text
    assert b"index = f1" in text


@pytest.fixture
def mlflow_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")
    from mlflow.tracking import MlflowClient

    return MlflowClient()


def test_mlflow_continues_the_run_of_the_same_name(run: Run, mlflow_client: Any) -> None:
    tracked("mlflow", run, range(1, 5), finished=False)
    experiment = mlflow_client.get_experiment_by_name("ours").experiment_id
    (first,) = mlflow_client.search_runs([experiment])
    assert first.info.status == "FAILED"
    assert first.data.params == {name: str(value) for name, value in run.params.items()}
    assert first.data.tags["bisieve.index"] == "f1"
    changed = {**run.params, "checkpoint_every": 5, "track": "mlflow"}
    # From the checkpoint of step 2 on: steps 3 and 4 come a second time.
    tracked("mlflow", replace(run, first_step=2, params=changed), range(3, 7), finished=True)
    (second,) = mlflow_client.search_runs([experiment])
    assert (second.info.run_id, second.info.run_name) == (first.info.run_id, "abc-1")
    assert second.info.status == "FINISHED"
    history = mlflow_client.get_metric_history(first.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(step, 1 / step) for step in range(1, 7)]
    assert second.data.params["track"] == "mlflow"
    assert second.data.tags["bisieve.resumed.checkpoint_every"] == "5"
    tracked("mlflow", replace(run, name="abc-2"), range(1, 2), finished=True)
    assert len(mlflow_client.search_runs([experiment])) == 2


def test_mlflow_sends_what_an_outage_held_back() -> None:
    sent: list[Any] = []
    outages = iter([False, True, True, False, False])

    def log_batch(run_id: str, metrics: list[Any]) -> None:
        if next(outages):
            raise ConnectionError("no route")
        sent.extend(metrics)

    client = SimpleNamespace(log_batch=log_batch, set_terminated=lambda *args: None)
    said: list[str] = []
    thread = TrackerThread("mlflow", MLflow(client, "id", 0, lambda *metric: metric), said.append)
    for step in range(1, 5):
        thread.call("add", step, {"loss": float(step)}, 7.0)
    thread.call("close", True)
    thread.end(10)
    assert sent == [("loss", float(step), 7000, step) for step in range(1, 5)]
    assert said == ["mlflow failed, training goes on: no route"]


@pytest.fixture
def wandb_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What W&B reads from the environment, once a process unless it is told otherwise."""
    import wandb

    for name, value in {"WANDB_MODE": "offline", "WANDB_API_KEY": SECRET, "WANDB_PROJECT": "ours"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    monkeypatch.setattr(base, "_PATIENCE", 200)
    yield
    wandb.teardown()


def test_wandb_gets_config_and_metrics_and_writes_no_secret(
    run: Run, tmp_path: Path, wandb_account: None
) -> None:
    tracked("wandb", run, range(1, 4), finished=True)
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert folder.name.endswith("-abc-1")
    (file,) = folder.glob("*.wandb")
    content = file.read_bytes()
    for expected in (b"abc-1", b"ours", b"learning_rate", b"lineage", b"loss", b"0.3333333333333333"):
        assert expected in content
    everything = b"".join(path.read_bytes() for path in (tmp_path / "wandb").rglob("*") if path.is_file())
    assert SECRET.encode() not in everything


def test_wandb_is_asked_to_go_on_with_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    asked: dict[str, Any] = {}

    def init(**options: Any) -> Any:
        asked.update(options)
        return SimpleNamespace(config={})

    monkeypatch.setattr(wandb, "init", init)
    from ray_train.tracking.wandb import start

    start(run)
    assert (asked["id"], asked["name"], asked["resume"]) == ("abc-1", "abc-1", "allow")


def test_a_tracker_whose_package_is_missing_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("wandb", "mlflow.entities"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("wandb", "mlflow"):
        with pytest.raises(TrainingError, match=rf"pip install 'bisieve\[{name}\]'"):
            Trackers().start(name, run)


def test_a_tracker_that_does_not_answer_is_named(
    run: Run, mlflow_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(TrainingError, match=r"--track mlflow; found .*refused.*environment") as caught:
        Trackers().start("mlflow", run)
    assert time.monotonic() - started < 30
    assert SECRET not in str(caught.value)


def test_an_account_that_is_none_is_named(
    run: Run, wandb_account: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "no key")
    with pytest.raises(TrainingError, match=r"--track wandb; found .*environment"):
        Trackers().start("wandb", run)


@dataclass
class Faulty:
    """A tracker that fails, or does not return."""

    stuck: threading.Event | None = None
    added: list[int] = field(default_factory=list)

    def add(self, step: int, values: dict[str, float], seconds: float) -> None:
        if self.stuck:
            self.stuck.wait()
        self.added.append(step)
        raise OSError(f"http://me:{SECRET}@host: gone")

    def commit(self) -> None:
        raise OSError("still gone")

    def close(self, finished: bool) -> None:
        raise OSError("still gone")


def running(tracker: Faulty, run: Run, monkeypatch: pytest.MonkeyPatch) -> Trackers:
    monkeypatch.setattr(base, "_started", lambda name, run: tracker)
    found = Trackers()
    found.start("mlflow", run)
    return found


def test_a_tracker_that_fails_later_is_said_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    faulty = Faulty()
    found = running(faulty, replace(run, say=said.append), monkeypatch)
    for step in (1, 2):
        found.add(step, {"loss": 1.0})
    found.commit()
    found.close(finished=True)
    assert said == ["mlflow failed, training goes on: http://***@host: gone"]
    assert faulty.added == [1, 2]


def test_a_tracker_that_hangs_holds_nobody_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_PATIENCE", 0.1)
    monkeypatch.setattr(base, "_WAITING", 3)
    said: list[str] = []
    stuck = threading.Event()
    found = running(Faulty(stuck), replace(run, say=said.append), monkeypatch)
    started = time.monotonic()
    for step in range(10):
        found.add(step, {"loss": 1.0})
    found.close(finished=True)
    assert time.monotonic() - started < 5
    assert len(said) == 1
    stuck.set()


def test_trackers_are_chosen_by_name() -> None:
    assert chosen_trackers("tensorboard") == ("tensorboard",)
    assert chosen_trackers("mlflow, wandb,mlflow") == ("mlflow", "wandb")
    assert chosen_trackers("none") == ()
    for wrong in ("", "tensorboard,none", "aim"):
        with pytest.raises(UsageError, match="--track"):
            chosen_trackers(wrong)


def test_a_tracker_that_cannot_start_ends_all_ranks_before_the_first_step(
    ray_cluster: None, settings: Callable[..., TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings()
    os.makedirs(config.output)
    (Path(config.output) / "tensorboard").write_text("not a folder")
    with pytest.raises(StorageError, match=r"tensorboard; found a file"):
        train(config)
    assert "step 1/" not in capsys.readouterr().out
