"""An operator that runs a command as a job of a Ray cluster; the job survives the Airflow task.

try 1   submit ──▶ job BISIEVE-…-1 ──logs──▶  ✗ task killed, or worker or scheduler gone
                       │ continues
try 2   finds it ──────┴──────────────logs──▶ end
        if it has failed: submits …-2, which resumes from the last checkpoint
"""

import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from airflow.sdk import BaseHook, BaseOperator, ResumableJobMixin
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from websockets.exceptions import WebSocketException

from bisieve_airflow.ray_jobs import RayJobs, TokenError

WRONG_USAGE = 2  # exit code of a usage error, which a retry does not fix


class RayJobOperator(ResumableJobMixin, BaseOperator):
    """An operator that runs ``bisieve ARGUMENTS`` as a Ray job, logs its output and returns its output URL.

    A job is identified by its output: if two tasks have the same output, the second waits for the first one's
    job, or fails if its arguments differ.

    Args:
        arguments: ``train`` or ``evaluate`` and its arguments, among them ``--output=URL``; or a callable
            that makes them from the task's context.
        conn_id: The Airflow connection of the cluster's dashboard.
        runtime_env: Ray's runtime environment; it must install ``bisieve`` if the machines have none.
        poll_seconds: Seconds to wait before connecting to the job's output again.
        kwargs: Arguments of `BaseOperator`.
    """

    template_fields = ("arguments",)
    external_id_key = "ray_submission_id"

    def __init__(
        self,
        *,
        arguments: Sequence[str] | Callable[..., list[str]],
        conn_id: str = "ray_default",
        runtime_env: Mapping[str, Any] | None = None,
        poll_seconds: float = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.arguments = arguments
        self.conn_id = conn_id
        self.runtime_env = runtime_env
        self.poll_seconds = poll_seconds
        self._jobs: RayJobs | None = None
        self._name: str | None = None  # submission id of the job to stop if the task is killed

    def execute(self, context: Any) -> str:
        """Submit the job or find the running one, wait for its end, and return its output URL.

        Raises:
            AirflowFailException: The cluster refuses the token, or the command is used wrongly: no retry.
            AirflowException: The job has failed or is lost: Airflow retries.
        """
        try:
            self.execute_resumable(context)
        except TokenError as error:
            raise AirflowFailException(str(error)) from None
        if store := context.get("task_state_store"):
            store.delete(self.external_id_key)  # so that clearing the finished task submits a new job
        return self._output

    def submit_job(self, context: Any) -> str:
        """Submit the job and return its submission id.

        If a previous try was killed after it had submitted a job but before its id was saved, that job is
        found by its id instead.

        Raises:
            TrainingError: A job of another command is writing to the output.
        """
        from ray_train.job_ids import TIME_TO_SAVE, SeenJob, next_submission

        seen = {name: SeenJob(job["status"], job["entrypoint"]) for name, job in self.jobs.all().items()}
        found = next_submission(self.arguments[0], self._output, self._entrypoint, seen)
        self._name = found.id
        if found.is_new:
            environment = dict(self.runtime_env or {})
            environment["env_vars"] = {**TIME_TO_SAVE, **environment.get("env_vars", {})}
            self.jobs.submit(found.id, self._entrypoint, environment)
        self.log.info("job %s%s: %s", found.id, "" if found.is_new else " (found)", self._entrypoint)
        return found.id

    def get_job_status(self, external_id: Any, context: Any) -> str:
        """Return Ray's status of the job.

        LOST if the cluster does not know the job, as after it was replaced, or if the job runs another
        command than this task's.
        """
        job = self.jobs.details(external_id)
        return job["status"] if job and job["entrypoint"] == self._entrypoint else "LOST"

    def is_job_active(self, status: str) -> bool:
        """Return whether the job is pending or running."""
        return status in ("PENDING", "RUNNING")

    def is_job_succeeded(self, status: str) -> bool:
        """Return whether the job has ended successfully."""
        return status == "SUCCEEDED"

    def poll_until_complete(self, external_id: Any, context: Any) -> None:
        """Log the job's output until it ends.

        Raises:
            AirflowFailException: The command was used wrongly (exit code 2): no retry.
            AirflowException: The job has failed, was stopped or is lost: Airflow retries.
        """
        self._name = external_id
        last = ""
        for line in self._lines(external_id, context):
            self.log.info("%s", line)
            last = line.strip() or last
        job = self.jobs.details(external_id) or {"status": "LOST"}
        self._name = None  # it has ended
        if not self.is_job_succeeded(job["status"]):
            code = job.get("driver_exit_code")
            kind = AirflowFailException if code == WRONG_USAGE else AirflowException
            raise kind(f"job {external_id} {job['status']}, exit code {code}: {last or job.get('message')}")

    def get_job_result(self, external_id: Any, context: Any) -> None:
        """Return None: `execute` itself returns the result."""

    def on_kill(self) -> None:
        """Stop the job when the task is killed: Ray sends SIGTERM, and training saves a checkpoint."""
        if self._name:
            self.log.info("stopping job %s", self._name)
            self.jobs.stop(self._name)

    def _lines(self, name: str, context: Any) -> Iterator[str]:
        """Yield the job's output line by line; after a broken connection, only output not yet yielded."""
        shown, rest = 0, ""
        while True:
            active = self.is_job_active(self.get_job_status(name, context))
            at = 0
            try:
                for piece in self.jobs.tail(name):
                    new = piece[max(0, shown - at) :]
                    at += len(piece)
                    shown = max(shown, at)
                    *lines, rest = (rest + new).split("\n")
                    yield from lines
            except (WebSocketException, OSError) as error:
                self.log.warning("lost sight of job %s: %s", name, error)
            if not active:
                break
            time.sleep(self.poll_seconds)
        if rest:
            yield rest

    @property
    def jobs(self) -> RayJobs:
        """The jobs of the connection's cluster (host, port, schema).

        The token is the connection's password, else the variable RAY_AUTH_TOKEN.
        """
        if self._jobs is None:
            found = BaseHook.get_connection(self.conn_id)
            address = f"{found.schema or 'http'}://{found.host}:{found.port or 8265}"
            self._jobs = RayJobs(address, found.password or os.environ.get("RAY_AUTH_TOKEN"))
        return self._jobs

    @property
    def _entrypoint(self) -> str:
        return shlex.join(["bisieve", *self.arguments])

    @property
    def _output(self) -> str:
        given = next(word for word in self.arguments if word.startswith("--output="))
        return given.removeprefix("--output=")
