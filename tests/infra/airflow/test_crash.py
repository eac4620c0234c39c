"""A real scheduler, and a task that is killed in the middle of the training."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from nodes import Nodes
from real_airflow import AIRFLOW, Airflow, Run
from services import Services, services

from bisieve import storage
from ray_train.checkpoints.checkpoint import loss_curve

DAG = "bisieve_train"


def until(holds: Callable[[], Any], seconds: float = 300) -> Any:
    """What ``holds`` returns, once that is true."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, holds
        time.sleep(0.5)
    return found


@pytest.mark.timeout(900)  # the whole run comes before it
def test_a_task_killed_in_the_middle_of_training_goes_on_with_the_same_job(
    whole_run: Run,
    airflow: Airflow,
    head: Nodes,
    params: dict[str, Any],
    free_ports: Callable[..., dict[str, int]],
) -> None:
    ports = free_ports("api", "logs")
    options = {**params["train_options"], "epochs": 60, "seed": 7}
    asked = {name: value for name, value in params.items() if name not in ("input", "score_options")}
    asked["train_options"] = options
    with services(
        AIRFLOW / "airflow", airflow.home, airflow.environment, ports["api"], ports["logs"]
    ) as running:
        with pytest.raises(HTTPError, match=r"40\d|422"):
            start(running, "refused", {**asked, "fraction": 2})
        start(running, "killed", asked)
        jobs_before = set(training_jobs(head))
        job = until(lambda: set(training_jobs(head)) - jobs_before).pop()
        until(lambda: re.search("step +8/", logs(head, job)))
        first = running.task(DAG, "killed", "train")
        os.kill(first["pid"], signal.SIGKILL)
        again = until(lambda: trying(running, 2))
        assert again["pid"] != first["pid"]
        assert training_jobs(head)[job] == "RUNNING", "the job has ended before it was found again"
        until(lambda: running.task(DAG, "killed", "train")["state"] == "success")
    assert set(training_jobs(head)) - jobs_before == {job}
    model = logs(head, job).split("model: ")[-1].strip()
    run = json.loads(storage.read_bytes(storage.join(model, "run.json")))
    assert run["attempt"] == 1
    checkpoints = Path(model.removeprefix("file://"), "runs", run["run"])
    snapshot = json.loads((checkpoints / "checkpoint_manager_snapshot.json").read_text())
    curve = loss_curve(str(checkpoints / snapshot["latest_checkpoint_result"]["checkpoint_dir_name"]))
    assert len(curve) == logs(head, job).count("\nstep ") == 240


def start(running: Services, run: str, conf: dict[str, Any]) -> None:
    running.call(f"/api/v2/dags/{DAG}", {"is_paused": False}, "PATCH")
    running.call(f"/api/v2/dags/{DAG}/dagRuns", {"dag_run_id": run, "logical_date": None, "conf": conf})


def trying(running: Services, number: int) -> dict[str, Any] | None:
    """The task once it runs for the ``number``-th time."""
    task = running.task(DAG, "killed", "train")
    return task if task["try_number"] == number and task["state"] == "running" and task["pid"] else None


def training_jobs(head: Nodes) -> dict[str, str]:
    jobs = head.get("/api/jobs/")
    return {job["submission_id"]: job["status"] for job in jobs if "bisieve train" in job["entrypoint"]}


def logs(head: Nodes, job: str) -> str:
    return str(head.get(f"/api/jobs/{job}/logs")["logs"])
