"""The tracker for MLflow, at ``MLFLOW_TRACKING_URI``, in the experiment ``MLFLOW_EXPERIMENT_NAME``.

The MLflow run has bisieve's run name as its tag ``bisieve.run``, by which a resumed run finds and continues
it.
"""

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from bisieve._redact import without_secrets
from bisieve.errors import TrainingError
from bisieve.io.urls import is_reachable
from ray_train.tracking.base import Run

_TAG = "bisieve.run"
_EXPERIMENT = "bisieve"
_AT_ONCE = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits per request
_DATABASES = ("sqlite", "mysql", "postgresql", "mssql")
_DEFAULT = "sqlite:///mlflow.db"  # what MLflow 3 uses if no variable is set


def check() -> None:
    """Check that MLflow can read the database, or that the server listens, at ``MLFLOW_TRACKING_URI``.

    Raises:
        TrainingError: It cannot, or no server listens there.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or ("" if "RAY_ADDRESS" in os.environ else _DEFAULT)
    scheme = urlsplit(uri).scheme.split("+")[0]
    if scheme in _DATABASES and find_spec("sqlalchemy") is None:
        raise TrainingError(
            f"all of MLflow for a database as MLFLOW_TRACKING_URI ({without_secrets(uri)})",
            "mlflow-skinny, which reads none",
            "pip install mlflow on every machine, or set MLFLOW_TRACKING_URI to a server",
        )
    if scheme in ("http", "https") and not is_reachable(uri):
        raise TrainingError(
            f"a server that answers at MLFLOW_TRACKING_URI ({without_secrets(uri)})",
            "none",
            "check MLFLOW_TRACKING_URI, or give another --track",
        )


def start(run: Run) -> "MLflow":
    """Create the MLflow run of ``run``, or find the one that it had; log its options and lineage.

    Sets the environment variables of MLflow's retries, if they are not set.
    """
    # By default MLflow retries for minutes, and the start or the end of the run would wait for it.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    entities: Any = import_module("mlflow.entities")
    client = import_module("mlflow.tracking").MlflowClient()
    experiment = _experiment(client)
    found = client.search_runs([experiment], f"tags.`{_TAG}` = '{run.name}'", max_results=1)
    ours = found[0] if found else client.create_run(experiment, run_name=run.name, tags={_TAG: run.name})
    run_id = ours.info.run_id
    if found:
        client.update_run(run_id, status="RUNNING")
    asked = {name: str(value) for name, value in run.params.items()}
    # MLflow's params cannot change: they keep the options of the first start, and options that were changed
    # when the run was resumed become tags.
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
    """A `Tracker` that sends metrics to an MLflow run."""

    def __init__(self, client: Any, run_id: str, last_step: int, metric: Any) -> None:
        self._client = client
        self._metric = metric
        self._run_id = run_id
        self._last_step = last_step
        self._unsent: list[Any] = []

    def add(self, step: int, values: dict[str, float], seconds: float) -> None:
        """Send the metrics, and earlier ones that could not be sent; skip a step that the run has already."""
        if step <= self._last_step:
            return
        self._last_step = step
        self._unsent += [
            self._metric(name, value, int(seconds * 1000), step) for name, value in values.items()
        ]
        self.commit()

    def commit(self) -> None:
        """Send all metrics that were not sent yet."""
        while self._unsent:
            _log(self._client, self._run_id, metrics=(sent := self._unsent[: _AT_ONCE["metrics"]]))
            del self._unsent[: len(sent)]

    def close(self, finished: bool) -> None:
        """Send what is left, and set the status of the MLflow run: FINISHED, or FAILED."""
        self.commit()
        self._client.set_terminated(self._run_id, "FINISHED" if finished else "FAILED")
