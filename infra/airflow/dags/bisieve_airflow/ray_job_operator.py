"""A task that is a job of a Ray: it goes on while its task is away.

try 1   submit ──▶ job BISIEVE-…-1 ──logs──▶  ✗ killed, worker or scheduler gone
                       │ runs on
try 2   finds it ──────┴──────────────logs──▶ end
        found it failed: submits …-2, which goes on from the last checkpoint
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

WRONG_USAGE = 2  # exit code; what no other try will mend


class RayJobOperator(ResumableJobMixin, BaseOperator):
    """Runs ``bisieve ARGUMENTS`` as a job on the Ray of a connection, and shows what it prints.

    ``arguments`` are those of ``train`` or ``evaluate``, that word the first, or what makes them of the
    task's context; ``--output=URL`` is among them, and is returned.  A job belongs to its output: of two
    tasks with the same one the second waits for the job of the first, and fails if it asks for another.

    ``runtime_env`` is Ray's; it must bring ``bisieve`` where the machines have none.
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
        self._name: str | None = None  # of the job that ends with this task

    def execute(self, context: Any) -> str:
        """Submits, or finds, the job and waits for its end; returns its output's URL."""
        try:
            self.execute_resumable(context)
        except TokenError as error:
            raise AirflowFailException(str(error)) from None
        if store := context.get("task_state_store"):
            store.delete(self.external_id_key)  # who clears this task asks for another job
        return self._output

    def submit_job(self, context: Any) -> str:
        """Submits it, unless the try before did and could not write it down."""
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
        """Ray's word for it; LOST when the Ray is another one now, or when this task asks for another one."""
        job = self.jobs.details(external_id)
        return job["status"] if job and job["entrypoint"] == self._entrypoint else "LOST"

    def is_job_active(self, status: str) -> bool:
        """Whether there is something to wait for."""
        return status in ("PENDING", "RUNNING")

    def is_job_succeeded(self, status: str) -> bool:
        """Whether all is done."""
        return status == "SUCCEEDED"

    def poll_until_complete(self, external_id: Any, context: Any) -> None:
        """Shows the job's lines until it has ended; raises unless it ended well."""
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
        """Nothing: `execute` knows it."""

    def on_kill(self) -> None:
        """Ends the job with its task: SIGTERM, so that training saves a checkpoint to go on from."""
        if self._name:
            self.log.info("stopping job %s", self._name)
            self.jobs.stop(self._name)

    def _lines(self, name: str, context: Any) -> Iterator[str]:
        """The job's output by lines; what a broken connection had shown already is not shown again."""
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
        """The Ray of the connection (host, port, schema); its token is the password, or RAY_AUTH_TOKEN."""
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
