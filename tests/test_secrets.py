"""No secret gets out: one is planted, and all that a pipeline says and writes is searched for it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bisieve.storage import read_bytes, stored_files

ROOT = Path(__file__).parents[1]
PLANTED = "pl4nted-s3cret"
OTHER_SECRETS = (
    "WANDB_API_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "HF_TOKEN",
    "RAY_AUTH_TOKEN",
    "AWS_SESSION_NAME",
)

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """All that programs leave on the machine, the logs of Ray among it; short: it holds sockets."""
    with TemporaryDirectory(prefix="bs-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def bisieve(s3: str, temporary: Path) -> Command:
    """Runs a command with secrets in its environment; returns its exit code and all that it said."""
    planted = dict.fromkeys(OTHER_SECRETS, PLANTED)
    environment = {**os.environ, **planted, "TMPDIR": str(temporary), "RAY_TMPDIR": str(temporary)}

    def run(*words: str, **more: str) -> tuple[int, str]:
        program = Path(sys.executable).with_name("bisieve")
        done = subprocess.run(
            [str(program), *words], env=environment | more, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_no_secret_of_the_environment_is_said_or_written(s3: str, bisieve: Command, temporary: Path) -> None:
    corpus, there, events = str(temporary / "corpus"), f"{s3}/secrets", temporary / "events"
    events.mkdir()
    images, index, model = ["--image-root", corpus], f"{there}/index", f"{there}/model"
    benchmark = ["--benchmark", f"{corpus}/benchmark.jsonl", *images]
    cut = ["--index", index, "--fraction", "0.2", *images, "--output", model]
    backbone = ["--backbone", str(ROOT / "tests/fixtures/backbone")]
    logged = ["--spark-conf", "spark.eventLog.enabled=true", "--spark-conf", f"spark.eventLog.dir={events}"]
    evaluated = ["--model", model, *benchmark, "--output", f"{there}/metrics", "--workers", "1"]
    well = [
        bisieve("corpus", "--output", corpus, "--rollouts", "100", "--benchmark", "10"),
        bisieve(
            "score", "--input", f"{corpus}/annotations", "--index", index, "--log-format", "json", *logged
        ),
        bisieve("train", *cut, *backbone, "--workers", "1", "--global-batch", "10"),
        bisieve("evaluate", *evaluated),
        bisieve("doctor", "--json", "--input", index, "--output", there),
    ]
    assert [code for code, _ in well] == [0] * 5, well
    failed = [
        bisieve("report", "--index", f"{there}/nothing"),
        bisieve("report", "--index", index, AWS_SECRET_ACCESS_KEY=f"{PLANTED}-wrong"),
        bisieve("train", *cut, "--backbone", f"{there}/nothing", "--restart"),
        bisieve("score", "--input", f"s3://somebody:{PLANTED}@corpus/a", "--index", index),
    ]
    assert all(code in (1, 2) for code, _ in failed), failed

    said = {f"output {number}": text.encode() for number, (_, text) in enumerate([*well, *failed])}
    stored = {file.url: read_bytes(file.url) for file in stored_files(there)}
    left = {str(file): file.read_bytes() for file in temporary.rglob("*") if file.is_file()}
    assert f"{index}/manifest.json" in stored
    assert any("/events/" in name for name in left)
    assert any("session_" in name and name.endswith(".log") for name in left)
    secrets = [PLANTED.encode(), os.environ["AWS_SECRET_ACCESS_KEY"].encode()]
    everything = said | stored | left
    assert [name for name, data in everything.items() if any(secret in data for secret in secrets)] == []
