"""Ids of Ray jobs, so that the same command, given again, finds its own job and does not start a second one.

A run belongs to its output, so a job's id is a hash of the program and the output, followed by the number of
the attempt. This module does not import Ray, so that a scheduler in another environment can use it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from bisieve.errors import TrainingError

# Environment of a job: seconds that Ray waits after SIGTERM; its default, 3 s, is too short for a checkpoint.
TIME_TO_SAVE = {"RAY_JOB_STOP_WAIT_TIME_S": "600"}
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")  # Ray's terminal job states; in any other state a job is active


@dataclass(frozen=True)
class SeenJob:
    """A job in Ray's list of jobs."""

    status: str  # Ray's word for its state
    entrypoint: str  # its command line


@dataclass(frozen=True)
class Submission:
    """The job of a command."""

    id: str
    is_new: bool  # it must be submitted first; otherwise it is active already


def submission_id(program: str, output: str, attempt: int = 1) -> str:
    """Return the id of a job.

    Args:
        program: ``train``, ``evaluate``, ``best-of`` or ``sweep``.
        output: The job's ``--output``; a slash at the end does not matter.
        attempt: Number of the attempt, from 1.
    """
    digest = hashlib.sha256(f"{program} {output.rstrip('/')}".encode()).hexdigest()[:12]
    return f"bisieve-{program}-{digest}-{attempt}"


def next_submission(program: str, output: str, entrypoint: str, jobs: Mapping[str, SeenJob]) -> Submission:
    """Return the job of a command: its active job, or else a new attempt.

    A new attempt is made even after a job that has succeeded: the program itself resumes from its last
    checkpoint, or says that there is nothing to do or that the index has changed.

    Args:
        program: ``train``, ``evaluate``, ``best-of`` or ``sweep``.
        output: The job's ``--output``.
        entrypoint: The job's command line.
        jobs: All jobs of the Ray cluster, by id.

    Raises:
        TrainingError: A job with another command line writes to the output.
    """
    attempt = 1
    while (last := jobs.get(submission_id(program, output, attempt))) and last.status in ENDED:
        attempt += 1
    name = submission_id(program, output, attempt)
    if last is not None and last.entrypoint != entrypoint:
        raise TrainingError(
            f"no other command running on {output}",
            f"job {name}: {last.entrypoint}",
            f"wait for it, or end it with: ray job stop {name}",
        )
    return Submission(name, is_new=last is None)
