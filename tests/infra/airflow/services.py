"""Airflow's own processes, and its public REST interface."""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil

PROGRAMS = ("api-server", "scheduler", "dag-processor")


@dataclass
class Services:
    """An Airflow that runs."""

    port: int
    home: Path
    airflow: Path  # the program
    environment: Mapping[str, str]
    token: str = ""
    _started: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def call(self, path: str, body: Mapping[str, Any] | None = None, method: str | None = None) -> Any:
        """What its interface answers."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        with urlopen(Request(url, data=data, headers=headers, method=method), timeout=30) as answer:
            return json.loads(answer.read())

    def task(self, dag: str, run: str, task: str) -> dict[str, Any]:
        """A task of a run as it stands."""
        return dict(self.call(f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}"))

    def start(self, program: str) -> None:
        """Starts one of its processes."""
        with open(self.home / f"{program}.log", "a") as log:
            self._started[program] = subprocess.Popen(
                [self.airflow, program], env=self.environment, stdout=log, stderr=log, cwd=self.home
            )

    def kill(self, program: str) -> None:
        """Takes one away, with all that it has started: the scheduler's are the tasks."""
        process = self._started.pop(program)
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()

    def end(self) -> None:
        """Takes all away."""
        for program in list(self._started):
            self.kill(program)


@contextmanager
def services(
    airflow: Path, home: Path, environment: Mapping[str, str], port: int, logs: int
) -> Iterator[Services]:
    """Starts API server, scheduler and DAG processor of ``airflow``, and ends them and all they started."""
    url = f"http://127.0.0.1:{port}"
    whole = {
        **environment,
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": "one secret for all of these processes, and long enough " * 2,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(logs),
        # In which a dead scheduler is missed: minutes else.
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",  # these DAGs do not change; 30 s else
    }
    running = Services(port, home, airflow, whole)
    try:
        for program in PROGRAMS:
            running.start(program)
        yield _up(running)
    finally:
        running.end()


def _up(found: Services) -> Services:
    for _ in range(360):  # half a minute, where nothing else is at work
        try:
            found.token = found.call("/auth/token")["access_token"]
            found.call("/api/v2/dags/bisieve_train")  # once the DAG processor has read it
            return found
        except (URLError, OSError):
            time.sleep(0.5)
    logs = "\n".join((found.home / f"{program}.log").read_text()[-1500:] for program in PROGRAMS)
    raise RuntimeError(f"Airflow did not come up:\n{logs}")
