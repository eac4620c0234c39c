"""What a submitter makes of what it hears from a cluster."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import WSServerHandshakeError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobType
from ray.runtime_env import RuntimeEnv

from bisieve.cli.main import run_command
from bisieve.errors import BisieveError, PreemptedError, TrainingError, UsageError
from ray_train import jobs
from ray_train.job_ids import Submission, submission_id


def job(status: JobStatus, **more: Any) -> JobDetails:
    return JobDetails(type=JobType.SUBMISSION, submission_id="j", status=status, entrypoint="x", **more)


class Cluster:
    """A cluster whose connections break off; of each only so much of the log comes through."""

    log = "step 1\nstep 2\nstep 3\n"

    def __init__(self, *reads: int) -> None:
        self._reads = list(reads)

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        read = self._reads.pop(0)
        for start in range(0, read, 5):
            yield self.log[start : min(start + 5, read)]
        if self._reads:
            raise RuntimeError("closed unexpectedly")

    def get_job_info(self, name: str) -> JobDetails:
        return job(JobStatus.SUCCEEDED)


def test_a_log_is_shown_once_however_often_its_connection_breaks_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "_PAUSE", 0)
    client: Any = Cluster(9, 3, 0, len(Cluster.log))
    assert jobs._followed(client, "j").status == JobStatus.SUCCEEDED
    assert capsys.readouterr().out == Cluster.log
    assert [record.getMessage() for record in caplog.records] == [
        f"answer about job j: try {number} now, after RuntimeError: closed unexpectedly"
        for number in (2, 3, 4)
    ]


def test_a_job_that_somebody_was_quicker_to_submit_is_asked_for_again_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Rival(Cluster):
        def __init__(self) -> None:
            self.theirs: list[JobDetails] = []

        def list_jobs(self) -> list[JobDetails]:
            return self.theirs

        def submit_job(self, submission_id: str, entrypoint: str, **more: Any) -> None:
            theirs = {"submission_id": submission_id, "entrypoint": entrypoint, "status": JobStatus.RUNNING}
            self.theirs.append(JobDetails(type=JobType.SUBMISSION, **theirs))
            raise RuntimeError(f"job {submission_id} already exists")

    client: Any = Rival()
    name = submission_id("train", "s3://a/o")
    assert jobs._submitted(client, "train", "s3://a/o", "x", {}) == Submission(name, is_new=False)
    (line,) = (record.getMessage() for record in caplog.records)
    assert line == f"job {name}: try 2 now, after RuntimeError: job {name} already exists"


def test_a_cluster_that_is_silent_for_long_is_an_error_and_the_job_can_be_followed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "SILENCE", -1)
    client: Any = Cluster(0, 0)
    with pytest.raises(TrainingError, match="run the same command again to follow it"):
        jobs._followed(client, "j")


@pytest.mark.parametrize(
    ("details", "code"),
    [
        (job(JobStatus.SUCCEEDED, driver_exit_code=0), 0),
        (job(JobStatus.FAILED, driver_exit_code=2), 2),
        (job(JobStatus.FAILED, driver_exit_code=143), 143),
        (job(JobStatus.FAILED, driver_exit_code=-9), 137),
    ],
)
def test_the_exit_code_is_that_of_the_job(details: JobDetails, code: int) -> None:
    assert jobs._exit_code(details) == code


@pytest.mark.parametrize(
    ("details", "error", "code"),
    [
        (job(JobStatus.STOPPED), PreemptedError, 143),
        (job(JobStatus.FAILED, message="no node"), TrainingError, 1),
    ],
)
def test_a_job_without_an_exit_code_tells_why(
    details: JobDetails, error: type[BisieveError], code: int
) -> None:
    with pytest.raises(error) as caught:
        jobs._exit_code(details)
    assert caught.value.exit_code == code


def test_a_job_has_the_code_the_time_to_save_and_what_its_file_says(tmp_path: Path) -> None:
    file = tmp_path / "runtime.yaml"
    file.write_text("env_vars: {HF_HOME: /cache, RAY_JOB_STOP_WAIT_TIME_S: '60'}\npip: [einops]\n")
    assert jobs._runtime_env(None, None) == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "600"}}
    assert jobs._runtime_env(str(file), tmp_path) == {
        "working_dir": str(tmp_path),
        "pip": ["einops"],
        "env_vars": {"PYTHONPATH": "lib:.", "HF_HOME": "/cache", "RAY_JOB_STOP_WAIT_TIME_S": "60"},
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('env_vars:\n  HF_TOKEN: "hf_PLANTED\n', "found a fault in line 3, column 1; correct it"),
        ("env_vars: {HF_TOKEN: hf_PLANTED: no}\n", "found a fault in line 1, column 32; correct it"),
        ("env_vars: [HF_TOKEN=hf_PLANTED]\n", "found a list"),
        ("env_vars: HF_TOKEN=hf_PLANTED\n", "found a str"),
        ("env_vars: {HF_TOKEN: {PLANTED: 1}}\n", "found HF_TOKEN, of types str and dict"),
        ("env_vars: {HF_TOKEN=hf_PLANTED}\n", "found HF_TOKEN, of types str and NoneType"),
        ("env_vars: {HF_TOKEN: 2026-99-99}\n", "found ValueError"),
        ("PLANTED", "found str"),
        (b"env_vars: {HF_TOKEN: PLANTED\xff}", "found ReaderError"),
    ],
)
def test_a_file_that_is_no_runtime_environment_is_one_line_without_its_content(
    text: str | bytes, found: str, tmp_path: Path
) -> None:
    file = tmp_path / "runtime.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as caught:
        jobs._runtime_env(str(file), None)
    assert f"{file}; {found}" in str(caught.value)
    assert "PLANTED" not in str(caught.value)
    assert "PLANTED" not in str(caught.value.__cause__)


def test_a_runtime_environment_that_ray_does_not_take_is_one_line() -> None:
    class Taker(Cluster):
        def list_jobs(self) -> list[JobDetails]:
            return []

        def submit_job(self, runtime_env: dict[str, Any], **more: Any) -> None:
            RuntimeEnv(**runtime_env)  # as Ray's own client begins

    client: Any = Taker()
    with pytest.raises(TrainingError, match="expected the cluster to take the job"):
        jobs._submitted(client, "train", "s3://a/o", "x", {"pip": 3})


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("503"), "expected the list of the cluster's jobs; found 503"),
        (AuthenticationError("no"), "expected the token that the Ray at http://ray:8265 asks for"),
    ],
)
def test_a_cluster_that_does_not_list_its_jobs_is_one_line(
    error: Exception, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(Cluster):
        def list_jobs(self) -> list[JobDetails]:
            raise error

    monkeypatch.setattr(jobs, "_connected", lambda address: Closed())
    with pytest.raises(TrainingError) as caught:
        jobs.run_job("train", "s3://a/o", ["x"], None, "http://ray:8265")
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    "error",
    [AuthenticationError("no"), WSServerHandshakeError(Mock(), (), status=401, message="Unauthorized")],
)
def test_a_token_that_changes_while_a_job_is_followed_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Changed(Cluster):
        async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
            raise error
            yield ""

    monkeypatch.setattr(jobs, "_connected", lambda address: Changed())
    monkeypatch.setattr(jobs, "_submitted", lambda *args: Submission("j", is_new=True))
    with pytest.raises(TrainingError, match="expected the token that the Ray at http://ray:8265"):
        jobs.run_job("train", "s3://a/o", ["x"], None, "http://ray:8265")


def test_a_file_may_leave_out_its_variables(tmp_path: Path) -> None:
    file = tmp_path / "runtime.yaml"
    file.write_text("env_vars:\n")
    assert jobs._runtime_env(str(file), None) == jobs._runtime_env(None, None)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--address", "http://127.0.0.1:1", "train"], "expected a Ray cluster's dashboard"),
        (["--runtime-env", "/no/such/file", "train"], "expected a YAML file at /no/such/file"),
        (["train", "--fraction", "2"], "expected a fraction in (0, 1]"),
    ],
)
def test_what_cannot_be_submitted_is_one_line_and_a_code(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    places = ["--index", "s3://a/i", "--image-root", "s3://a", "--backbone", "a/b", "--output", "s3://a/o"]
    assert run_command("ray_train.cli.submit", [*words, *places]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
