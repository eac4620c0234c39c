"""Place trials on a Ray cluster with Ray Tune, in processes that make one trial after another.

    driver: `run_trials` ──Ray Tune──▶ actor: `_Runner`, reused ──`run_trial`──▶ OUTPUT/trials/ID.json

A trial writes its own result, so what is finished survives any end of the driver. What Ray Tune itself keeps
is temporary.
"""

import logging
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ray.exceptions import RayError
from ray.tune import (
    Callback,
    CheckpointConfig,
    FailureConfig,
    PlacementGroupFactory,
    RunConfig,
    Stopper,
    Trainable,
    TuneConfig,
    TuneError,
    Tuner,
    grid_search,
    with_parameters,
    with_resources,
)

from bisieve.errors import BisieveError, TrainingError
from bisieve.io import storage
from bisieve.io.urls import canonical, join
from ray_train.cluster import unwrapped, uses_gpus
from ray_train.config import TrainConfig
from ray_train.evaluation.config import EvaluateConfig
from ray_train.sweeps.config import SweepConfig
from ray_train.sweeps.grid import Trial
from ray_train.sweeps.results import Finished, pace_of, write_trial

QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no files of the results: trials write their own
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the command, as it does elsewhere
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
GIVE_UP = 3  # trials that fail before any succeeds: the cause is then common to all
RUNNING = "running"  # folder of the trainings of several workers, below the output


class Display(Protocol):
    """Shows how far the trials are."""

    def begun(self, trial: Trial) -> None:
        """Show that a trial has begun."""

    def __call__(self, finished: Finished, at_once: int) -> None:
        """Show a finished trial, while ``at_once`` run at a time."""


@dataclass
class Outcome:
    """What became of the trials that did not finish."""

    left: int = 0  # for want of time
    failed: dict[str, BisieveError] = field(default_factory=dict)  # by name of the trial


def run_trials(
    config: SweepConfig, ray: Any, trials: Sequence[Trial], before: Sequence[Finished], shown: Display
) -> Outcome:
    """Run trials, as many at a time as there is room for, in their order.

    Args:
        config: Options of the sweep.
        ray: The module ``ray``, connected.
        trials: The trials.
        before: Trials that were finished before; they tell how long one takes.
        shown: Gets each trial that begins or is finished.

    Raises:
        TrainingError: Ray Tune itself fails.
    """
    os.environ.update(QUIET)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    first = trials[0].train
    workers, gpu = first.workers.least, uses_gpus(ray, first.device, first.workers.least)
    deadline = time.time() + 3600 * config.max_hours if config.max_hours else None
    work = _Work(list(trials), list(before), config.output, deadline)
    runner = with_resources(with_parameters(_Runner, work=work), _resources(workers, gpu))
    outcome = Outcome()
    at_once = _at_once(config, ray, workers, gpu)
    progress = _Progress(work, outcome, shown, at_once, bool(before))
    with tempfile.TemporaryDirectory() as folder:
        tuner = Tuner(
            runner,
            param_space={"number": grid_search(list(range(len(trials))))},
            tune_config=TuneConfig(reuse_actors=True, max_concurrent_trials=at_once),
            run_config=RunConfig(
                name="sweep", storage_path=folder, verbose=0, callbacks=[progress], stop=_Fault(progress),
                failure_config=FailureConfig(max_failures=1),
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            ),
        )  # fmt: skip
        try:
            tuner.fit()
        except (TuneError, RayError) as error:
            again = "run the same command again: finished trials are kept"
            raise unwrapped(error, "the trials to reach their end", again) from error
    return outcome


def _resources(workers: int, gpu: bool) -> PlacementGroupFactory:
    """Return what the actor of a trial reserves.

    With several workers Ray Train reserves what they need, so the actor itself has next to nothing: one byte,
    since Ray Tune does not accept nothing.
    """
    own = {"CPU": 1.0, "GPU": float(gpu)} if workers == 1 else {"memory": 1.0}
    return PlacementGroupFactory([own])


def _at_once(config: SweepConfig, ray: Any, workers: int, gpu: bool) -> int:
    there = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 0)) // workers
    return max(1, min(config.trials_at_once or there, there))


@dataclass
class _Work:
    """What an actor needs to make any of the trials."""

    trials: list[Trial]
    finished: list[Finished]  # before, or by this actor; they tell how long a trial takes
    output: str
    deadline: float | None  # seconds since the epoch; None without a limit

    def is_too_long(self, trial: Trial) -> bool:
        """Return whether the trial would not end before the deadline."""
        pace = pace_of(self.finished)
        ends = time.time() + (pace.of(trial) if pace else 0.0)
        return self.deadline is not None and ends > self.deadline


class _Runner(Trainable):
    """An actor that makes one trial after another; Ray Tune gives it another number for each."""

    def setup(self, config: dict[str, Any], work: "_Work | None" = None) -> None:
        assert work is not None  # from `with_parameters`
        self._work = work
        self._first = True

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        number = self.config["number"]
        trial = self._work.trials[number]
        report = {"done": True, "number": number}
        if self._work.is_too_long(trial):
            return report
        try:
            made_by = {"process": f"{os.getpid()} on {socket.gethostname()}", "first_of_process": self._first}
            self._first = False
            result = {**_run(trial, self._work.output), **made_by}
            write_trial(self._work.output, trial, result)
        except BisieveError as error:
            return {**report, "error": error}
        self._work.finished.append(Finished(trial, result))
        return {**report, "result": result}


def _run(trial: Trial, output: str) -> dict[str, Any]:
    """Train and evaluate in this process, or for several workers with Ray Train and Ray Data."""
    from ray_train.sweeps.trial import run_trial, run_with_ray

    if trial.train.workers.most > 1:
        return run_with_ray(*_placed(trial, join(output, RUNNING, trial.id)))
    with tempfile.TemporaryDirectory() as folder:
        return run_trial(*_placed(trial, canonical(folder)))


def _placed(trial: Trial, output: str) -> tuple[TrainConfig, EvaluateConfig]:
    """Return the options of a trial's training and evaluation, with a model at ``output``."""
    train = replace(trial.train, output=output)
    return train, replace(trial.evaluation, model=output, output=output)


class _Progress(Callback):
    """Receives each trial's start and end, in the driver, and shows them."""

    def __init__(
        self, work: _Work, outcome: Outcome, shown: Display, at_once: int, succeeded: bool
    ) -> None:  # fmt: skip
        self._work, self._outcome, self._shown, self._at_once = work, outcome, shown, at_once
        self.succeeded = succeeded

    @property
    def is_hopeless(self) -> bool:
        """Return whether the first trials all failed."""
        return not self.succeeded and len(self._outcome.failed) >= GIVE_UP

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        begun = self._work.trials[trial.config["number"]]
        if not self._work.is_too_long(begun):
            self._shown.begun(begun)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        ended = self._work.trials[result["number"]]
        if "error" in result:
            self._outcome.failed[ended.name] = result["error"]
        elif "result" in result:
            self.succeeded = True
            self._shown(Finished(ended, result["result"]), self._at_once)
        else:
            self._outcome.left += 1

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        ended = self._work.trials[trial.config["number"]]
        why = str(trial.get_pickled_error() or "its process ended").strip().splitlines()[-1]
        self._outcome.failed[ended.name] = TrainingError(
            "the trial to reach its end", why, "run the same command again"
        )


class _Fault(Stopper):
    """Stops everything if the first trials all fail."""

    def __init__(self, progress: _Progress) -> None:
        self._progress = progress

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._progress.is_hopeless


def remove_running(output: str) -> None:
    """Remove the models of trials of several workers, which nobody needs once they are evaluated."""
    folder = join(output, RUNNING)
    files = [file.url for file in storage.stored_files(folder)] if storage.exists(folder) else []
    storage.remove(files)
    storage.remove_empty_folders(files, output)
