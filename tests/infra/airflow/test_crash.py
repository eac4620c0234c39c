"""A real scheduler, and what becomes of the training when something of Airflow's is killed."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from real_airflow import AIRFLOW, Airflow, Run
from services import Services, services
from support.nodes import Nodes
from support.sample_logs import loss_curve

from bisieve.io import storage, urls

DAG = "bisieve_train"
RUNS = f"/api/v2/dags/{DAG}/dagRuns"

pytestmark = pytest.mark.timeout(900)  # the whole run comes before the first of them


@pytest.fixture(scope="module")
def running(
    whole_run: Run, airflow: Airflow, free_ports: Callable[..., dict[str, int]]
) -> Iterator[Services]:
    """Airflow's own processes, where the pipeline has run once."""
    ports = free_ports("api", "logs")
    with services(
        AIRFLOW / "airflow", airflow.home, airflow.environment, ports["api"], ports["logs"]
    ) as running:
        running.call(f"/api/v2/dags/{DAG}", {"is_paused": False}, "PATCH")
        yield running


@pytest.fixture(scope="module")
def asked(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a training that is not over soon."""
    asked = {name: value for name, value in params.items() if name not in ("input", "score_options")}
    return {**asked, "train_options": {**params["train_options"], "epochs": 6, "seed": 7}}


def test_a_run_with_a_wrong_parameter_is_refused_before_it_starts(
    running: Services, asked: dict[str, Any]
) -> None:
    with pytest.raises(HTTPError, match=r"40\d|422"):
        start(running, "refused", {**asked, "fraction": 2})


def test_a_task_and_then_the_scheduler_killed_in_the_midst_of_training_find_the_same_job_again(
    running: Services, head: Nodes, asked: dict[str, Any]
) -> None:
    jobs_before = set(training_jobs(head))
    start(running, "killed", asked)
    job = new_job(head, jobs_before)
    until(lambda: re.search("step +1/", logs(head, job)))
    with stopped(head):
        first = running.task(DAG, "killed", "train")
        os.kill(first["pid"], signal.SIGKILL)
        again = until(lambda: trying(running, 2))
        assert again["pid"] != first["pid"]
        running.kill("scheduler")
        running.start("scheduler")
        until(lambda: trying(running, 3))
        assert training_jobs(head)[job] == "RUNNING", "the job has ended before it was found again"
    until(lambda: running.task(DAG, "killed", "train")["state"] == "success")
    assert set(training_jobs(head)) - jobs_before == {job}
    model = logs(head, job).split("model: ")[-1].strip()
    run = json.loads(storage.read_bytes(urls.join(model, "run.json")))
    assert run["attempt"] == 1
    checkpoints = Path(model.removeprefix("file://"), "runs", run["run"])
    snapshot = json.loads((checkpoints / "checkpoint_manager_snapshot.json").read_text())
    curve = loss_curve(str(checkpoints / snapshot["latest_checkpoint_result"]["checkpoint_dir_name"]))
    assert len(curve) == logs(head, job).count("\nstep ") == 24


def test_a_task_that_is_cleared_asks_again_and_learns_nothing_twice(running: Services, head: Nodes) -> None:
    until(lambda: ended(running, "killed"))
    jobs_before = set(training_jobs(head))
    again = {"dag_run_id": "killed", "task_ids": ["train"], "only_failed": False, "dry_run": False}
    running.call(f"/api/v2/dags/{DAG}/clearTaskInstances", again)
    job = new_job(head, jobs_before)
    until(lambda: training_jobs(head)[job] == "SUCCEEDED")
    assert "nothing to do: this run is already finished" in logs(head, job)


def test_a_task_that_is_marked_as_failed_stops_its_job_which_saves_a_checkpoint_to_go_on_from(
    running: Services, head: Nodes, asked: dict[str, Any]
) -> None:
    until(lambda: ended(running, "killed"))
    options = {**asked["train_options"], "epochs": 1000, "seed": 8}
    jobs_before = set(training_jobs(head))
    start(running, "stopped", {**asked, "train_options": options})
    job = new_job(head, jobs_before)
    until(lambda: re.search("step +1/", logs(head, job)))
    running.call(f"{RUNS}/stopped/taskInstances/train", {"new_state": "failed"}, "PATCH")
    until(lambda: training_jobs(head)[job] == "STOPPED")
    assert re.search(r"stopped after step \d+ of 4,000 with a checkpoint", logs(head, job))
    until(lambda: ended(running, "stopped"))

    start(running, "goes-on", {**asked, "train_options": options})
    second = new_job(head, {*jobs_before, job})
    until(lambda: re.search(r"resumed at step \d+ of 4,000", logs(head, second)))
    running.call(f"{RUNS}/goes-on/taskInstances/train", {"new_state": "failed"}, "PATCH")
    until(lambda: training_jobs(head)[second] == "STOPPED")


def test_a_new_version_of_the_index_starts_the_training_with_the_parameters_of_the_dag(
    running: Services,
) -> None:
    assets = running.call("/api/v2/assets?name_pattern=bisieve_index")["assets"]
    running.call("/api/v2/assets/events", {"asset_id": assets[0]["id"]})
    until(lambda: any(run["run_type"] == "asset_triggered" for run in running.call(RUNS)["dag_runs"]))


@contextmanager
def stopped(head: Nodes) -> Iterator[None]:
    """Holds the training of ``head`` up while the block runs."""
    workers = [process for process in head.processes() if "RayTrainWorker" in process.name()]
    assert workers
    for worker in workers:
        worker.suspend()
    yield
    for worker in workers:
        worker.resume()


def until(holds: Callable[[], Any], seconds: float = 300) -> Any:
    """What ``holds`` returns, once that is true."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, holds
        time.sleep(0.5)
    return found


def start(running: Services, run: str, conf: dict[str, Any]) -> None:
    running.call(RUNS, {"dag_run_id": run, "logical_date": None, "conf": conf})


def ended(running: Services, run: str) -> bool:
    return running.call(f"{RUNS}/{run}")["state"] in ("success", "failed")


def trying(running: Services, number: int) -> dict[str, Any] | None:
    """The task once it runs for the ``number``-th time."""
    task = running.task(DAG, "killed", "train")
    return task if task["try_number"] == number and task["state"] == "running" and task["pid"] else None


def new_job(head: Nodes, before: set[str]) -> str:
    """The job that was not there before."""
    return str(until(lambda: set(training_jobs(head)) - before).pop())


def training_jobs(head: Nodes) -> dict[str, str]:
    jobs = head.get("/api/jobs/")
    return {job["submission_id"]: job["status"] for job in jobs if "bisieve train" in job["entrypoint"]}


def logs(head: Nodes, job: str) -> str:
    return str(head.get(f"/api/jobs/{job}/logs")["logs"])
