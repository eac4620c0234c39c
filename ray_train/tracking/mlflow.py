"""MLflow: the server that ``MLFLOW_TRACKING_URI`` names, the experiment that ``MLFLOW_EXPERIMENT_NAME`` does.

A run carries its name as the tag ``bisieve.run``: a resumed one is found by it and continued.
"""

import os
from importlib import import_module
from typing import Any

from ray_train.tracking.base import Run

TAG = "bisieve.run"
_EXPERIMENT = "bisieve"
_AT_ONCE = {"metrics": 1000, "params": 100, "tags": 100}  # that a server takes in one request


def start(run: Run) -> "MLflow":
    """The MLflow run of ``run``, a new one or the one it had."""
    # A few minutes of retries are MLflow's default; here the run's start, or its end, waits for them.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    entities: Any = import_module("mlflow.entities")
    client = import_module("mlflow.tracking").MlflowClient()
    experiment = _experiment(client)
    found = client.search_runs([experiment], f"tags.`{TAG}` = '{run.name}'", max_results=1)
    ours = found[0] if found else client.create_run(experiment, run_name=run.name, tags={TAG: run.name})
    run_id = ours.info.run_id
    if found:
        client.update_run(run_id, status="RUNNING")
    asked = {name: str(value) for name, value in run.params.items()}
    # A param is what the run began with; what was changed when it was resumed becomes a tag.
    known = ours.data.params
    params = [entities.Param(name, value) for name, value in asked.items() if name not in known]
    tags = {f"bisieve.{name}": str(value) for name, value in run.lineage.items()}
    tags |= {
        f"bisieve.resumed.{name}": value for name, value in asked.items() if known.get(name, value) != value
    }
    _log(client, run_id, params=params, tags=[entities.RunTag(name, value) for name, value in tags.items()])
    return MLflow(client, run_id, _last_step(client, run_id) if found else 0, entities.Metric)


def _experiment(client: Any) -> str:
    if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def _last_step(client: Any, run_id: str) -> int:
    return max((metric.step for metric in client.get_metric_history(run_id, "loss")), default=0)


def _log(client: Any, run_id: str, **entities: list[Any]) -> None:
    for kind, items in entities.items():
        for first in range(0, len(items), _AT_ONCE[kind]):
            client.log_batch(run_id, **{kind: items[first : first + _AT_ONCE[kind]]})


class MLflow:
    """A `Tracker` that sends metrics to a run."""

    def __init__(self, client: Any, run_id: str, last_step: int, metric: Any) -> None:
        self._client = client
        self._metric = metric
        self._run_id = run_id
        self._last_step = last_step
        self._unsent: list[Any] = []

    def add(self, step: int, values: dict[str, float], seconds: float) -> None:
        """Sends the metrics, and those that an outage held back; a step the run has is not sent again."""
        if step <= self._last_step:
            return
        self._last_step = step
        self._unsent += [
            self._metric(name, value, int(seconds * 1000), step) for name, value in values.items()
        ]
        self.commit()

    def commit(self) -> None:
        while self._unsent:
            _log(self._client, self._run_id, metrics=(sent := self._unsent[: _AT_ONCE["metrics"]]))
            del self._unsent[: len(sent)]

    def close(self, finished: bool) -> None:
        self.commit()
        self._client.set_terminated(self._run_id, "FINISHED" if finished else "FAILED")
