"""Which job of a Ray a command is: the same command again must find its own job, not start a second one.

A run belongs to its output, so a job's id comes from the program and the output alone, with the number of the
attempt behind it.  No Ray is needed here: a scheduler of another environment asks the same.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from bisieve.errors import TrainingError

# Of a job's environment: how long Ray waits, after SIGTERM, for the checkpoint; 3 s would be too few.
TIME_TO_SAVE = {"RAY_JOB_STOP_WAIT_TIME_S": "600"}
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")  # Ray's words; a job with another one goes on


@dataclass(frozen=True)
class SeenJob:
    """A job as Ray tells of it."""

    status: str
    entrypoint: str  # its command line


@dataclass(frozen=True)
class Submission:
    """The job to wait for."""

    id: str
    is_new: bool  # it has to be submitted first


def submission_id(program: str, output: str, attempt: int = 1) -> str:
    """The id of the ``attempt``-th job, from 1, of ``program`` (train or evaluate) with that ``--output``."""
    digest = hashlib.sha256(f"{program} {output.rstrip('/')}".encode()).hexdigest()[:12]
    return f"bisieve-{program}-{digest}-{attempt}"


def next_submission(program: str, output: str, entrypoint: str, jobs: Mapping[str, SeenJob]) -> Submission:
    """The job of this command among all ``jobs`` of a Ray, by id: the one that goes on, else a new attempt.

    After a job that has ended, well or not, the program itself is asked: it goes on from its last checkpoint,
    says that there is nothing to do, or that the index has changed.  `TrainingError` where another command
    writes to the output.
    """
    attempt = 1
    while (last := jobs.get(submission_id(program, output, attempt))) and last.status in ENDED:
        attempt += 1
    name = submission_id(program, output, attempt)
    if last is not None and last.entrypoint != entrypoint:
        raise TrainingError(
            f"no other command at work on {output}",
            f"job {name}: {last.entrypoint}",
            f"wait for it, or end it with: ray job stop {name}",
        )
    return Submission(name, is_new=last is None)
