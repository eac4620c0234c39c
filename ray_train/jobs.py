"""Run a command as a job of a Ray cluster: submit or find the job, print its log, return its exit code."""

import asyncio
import logging
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from bisieve import console
from bisieve.errors import PreemptedError, TrainingError, UsageError
from bisieve.io.retry import say_retry
from ray_train.cluster import token_error
from ray_train.job_ids import TIME_TO_SAVE, SeenJob, Submission, next_submission

SILENCE = 300.0  # most seconds without an answer of the cluster
_PAUSE = 2.0  # seconds between two requests
_IMPORTS = {"PYTHONPATH": "lib:."}  # for the working directory of a checkout
_LOST = (RuntimeError, OSError, aiohttp.ClientError)  # errors of Ray's client, and (as OSError) of requests
_NOT_ALLOWED = (401, 403)


def run_job(
    program: str,
    output: str,
    words: Sequence[str],
    code: Path | None,
    address: str | None = None,
    runtime_env: str | None = None,
) -> int:
    """Run a command as a job, or follow its job if that is active; print the job's log until it ends.

    Args:
        program: ``train``, ``evaluate`` or ``best-of``.
        output: The command's ``--output``, which identifies the job.
        words: The command.
        code: Folder that becomes the job's working directory; None: the nodes have bisieve installed.
        address: Address of the cluster's dashboard; None: found by Ray, by ``RAY_ADDRESS`` and others.
        runtime_env: Path of a YAML file with Ray's runtime environment.

    Returns:
        The job's exit code.

    Raises:
        TrainingError: No Ray answers, another command writes to this output, or the job could not start.
        UsageError: The YAML file is not a runtime environment.
        PreemptedError: The job was stopped.
        KeyboardInterrupt: Ctrl-C here, which does not stop the job; a note of the exception says so.
    """
    env = _runtime_env(runtime_env, code)
    try:
        client = _connected(address)
        if not (address or "RAY_ADDRESS" in os.environ or "RAY_API_SERVER_ADDRESS" in os.environ):
            console.status(f"using the Ray found at {client.get_address()}")
        job = _submitted(client, program, output, shlex.join(words), env)
    except AuthenticationError as error:
        raise token_error(address or "RAY_ADDRESS", error.message) from error
    console.status(f"job {job.id}: {'submitted' if job.is_new else 'already running, following its log'}")
    try:
        return _exit_code(_followed(client, job.id))
    except AuthenticationError as error:  # the cluster's token has changed while the job was followed
        raise token_error(address or "RAY_ADDRESS", error.message) from error
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(
            f"job {job.id} goes on: the same command follows it, ray job stop {job.id} ends it"
        )
        raise


def _runtime_env(url: str | None, code: Path | None) -> dict[str, Any]:
    env = {} if url is None else _runtime_file(url)
    variables = {**TIME_TO_SAVE, **(_IMPORTS if code else {}), **(env.get("env_vars") or {})}
    return {**({"working_dir": str(code)} if code else {}), **env, "env_vars": variables}


def _runtime_file(url: str) -> dict[str, Any]:
    """Read the runtime environment in a YAML file; errors do not quote values, which may be secrets."""
    try:
        env = yaml.safe_load(Path(url).read_bytes()) or {}
    except OSError as error:
        raise UsageError(f"a YAML file at {url}", str(error), "correct --runtime-env") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date
        mark = getattr(error, "problem_mark", None)
        where = f"a fault in line {mark.line + 1}, column {mark.column + 1}" if mark else type(error).__name__
        raise UsageError(f"a YAML file at {url}", where, "correct it") from None
    if not isinstance(env, dict):
        raise UsageError(f"a runtime environment in {url}", type(env).__name__, "correct the file")
    variables = env.get("env_vars") or {}
    if not isinstance(variables, dict):
        raise UsageError(
            f"env_vars of NAME: VALUE in {url}",
            f"a {type(variables).__name__}",
            "write HF_HOME: /cache below it",
        )
    for name, value in variables.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            types = f"types {type(name).__name__} and {type(value).__name__}"
            found = (
                f"{str(name).partition('=')[0]}, of {types}"  # after "=" may be the intended value, a secret
            )
            raise UsageError(f"text on both sides in env_vars of {url}", found, "quote it")
    return env


def _connected(address: str | None) -> JobSubmissionClient:
    for client in ("dashboard_sdk", "job.sdk"):  # they log every upload and every closed connection
        logging.getLogger(f"ray.dashboard.modules.{client}").setLevel(logging.ERROR)
    try:
        return JobSubmissionClient(address)
    except (*_LOST, ValueError) as error:
        raise TrainingError(
            "a Ray cluster's dashboard, such as http://HEAD:8265", str(error), "check --address, RAY_ADDRESS"
        ) from error


def _submitted(
    client: JobSubmissionClient, program: str, output: str, entrypoint: str, env: dict[str, Any]
) -> Submission:
    tries = 1
    while True:
        try:
            listed = client.list_jobs()
        except _LOST as error:
            raise TrainingError("the list of the cluster's jobs", str(error), "see its dashboard") from error
        jobs = {
            job.submission_id: SeenJob(job.status.value, job.entrypoint)
            for job in listed
            if job.submission_id
        }
        job = next_submission(program, output, entrypoint, jobs)
        if not job.is_new:
            return job
        try:
            client.submit_job(entrypoint=entrypoint, submission_id=job.id, runtime_env=env)
            return job
        except (*_LOST, TypeError, ValueError) as error:  # the last two: a wrong runtime environment
            if "already" not in str(error):  # else another process has just submitted the same command
                raise TrainingError("the cluster to take the job", str(error), "see its dashboard") from error
            tries += 1
            say_retry(f"job {job.id}", tries, error)


def _followed(client: JobSubmissionClient, name: str) -> JobDetails:
    """Print the log of a job until it ends, each part once, also across lost connections; return the job."""
    shown = 0

    async def show() -> None:
        nonlocal shown
        seen = 0  # each request returns the log from its beginning
        async for text in client.tail_job_logs(name):
            print(text[max(0, shown - seen) :], end="", flush=True)
            seen += len(text)
            shown = max(shown, seen)

    answered, tries = time.monotonic(), 1
    while True:
        try:
            asyncio.run(show())
            job = client.get_job_info(name)
            answered, tries = time.monotonic(), 1
            if job.status.is_terminal():
                return job
        except _LOST as error:
            if getattr(error, "status", None) in _NOT_ALLOWED:  # from the connection of the log
                raise AuthenticationError(str(error)) from error
            if time.monotonic() - answered > SILENCE:
                raise TrainingError(
                    f"an answer about job {name}",
                    f"none for {SILENCE:.0f} s: {error}",
                    "run the same command again to follow it",
                ) from error
            tries += 1
            say_retry(f"answer about job {name}", tries, error, _PAUSE)
        time.sleep(_PAUSE)


def _exit_code(job: JobDetails) -> int:
    if job.status is JobStatus.SUCCEEDED:
        return 0
    if job.status is JobStatus.STOPPED:
        raise PreemptedError(
            f"job {job.submission_id} to end by itself",
            "that it was stopped",
            "run the same command again, without --restart",
        )
    code = job.driver_exit_code
    if code is None:  # the driver did not start, or Ray did not see its end
        raise TrainingError(
            f"job {job.submission_id} to run", job.message or "no message from Ray", "see the dashboard"
        )
    return code if code >= 0 else 128 - code  # ended by a signal: 128 + its number, as in a shell
