"""A command finds its own job again."""

import pytest

from bisieve.errors import TrainingError
from ray_train.job_ids import SeenJob, Submission, next_submission, submission_id

OUTPUT = "s3://models/mprm"
COMMAND = "python ray_train/train_mprm.py --output s3://models/mprm"


def first(attempts: int, status: str) -> dict[str, SeenJob]:
    """So many jobs of the command, the last with ``status``, and one of somebody else."""
    ids = [submission_id("train", OUTPUT, attempt) for attempt in range(1, attempts + 1)]
    jobs = {name: SeenJob("FAILED", COMMAND) for name in ids[:-1]}
    return {**jobs, ids[-1]: SeenJob(status, COMMAND), "raysubmit_x": SeenJob("RUNNING", "sleep 9")}


def found(jobs: dict[str, SeenJob], command: str = COMMAND) -> Submission:
    return next_submission("train", OUTPUT, command, jobs)


def test_an_id_is_that_of_the_program_the_output_and_the_attempt() -> None:
    one = submission_id("train", OUTPUT)
    assert one == submission_id("train", OUTPUT + "/") == "bisieve-train-fbecf3c098fc-1"
    others = [("evaluate", OUTPUT, 1), ("train", "s3://models/other", 1), ("train", OUTPUT, 2)]
    assert len({one, *(submission_id(*other) for other in others)}) == 4


def test_the_first_job_of_an_output_is_new() -> None:
    assert found({}) == Submission(submission_id("train", OUTPUT, 1), is_new=True)


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_a_job_that_goes_on_is_the_one_to_wait_for(status: str) -> None:
    assert found(first(2, status)) == Submission(submission_id("train", OUTPUT, 2), is_new=False)


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_after_a_job_that_has_ended_comes_the_next_attempt(status: str) -> None:
    assert found(first(2, status)) == Submission(submission_id("train", OUTPUT, 3), is_new=True)


def test_another_command_at_the_same_output_is_refused_while_it_goes_on() -> None:
    with pytest.raises(TrainingError, match="ray job stop bisieve-train-"):
        found(first(1, "RUNNING"), COMMAND + " --fraction 0.1")
