"""No secret gets out: one is planted, and all that a pipeline says and writes is searched for it.

So is a harmless word, which must be found: a search that finds nothing anywhere would show nothing.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from support.arguments import Arguments
from support.forked_workers import ForkServer

from bisieve.io.storage import read_bytes, stored_files

pytestmark = [pytest.mark.spark, pytest.mark.ray]  # a whole pipeline, on Ray too

ROOT = Path(__file__).parents[1]
PLANTED = "pl4nted-s3cret"
HARMLESS = "h4rmless"  # in the name of the folder that all work in: the search must find it
SEARCHED = (r"/events/.*/events_1_", r"\.parquet$", r"/session_[^/]+/logs/.*\.log$", r"/mlruns/.*/params/")
OTHER_SECRETS = (
    "WANDB_API_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "HF_TOKEN",
    "RAY_AUTH_TOKEN",
    "_SPARK_AUTH_SECRET",
    "AWS_SESSION_NAME",
)

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """All that programs leave on the machine, the logs of Ray among it; short: it holds sockets."""
    with TemporaryDirectory(prefix=f"{HARMLESS}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def bisieve(s3: str, temporary: Path, forks: ForkServer) -> Command:
    """Runs a command with secrets in its environment; returns its exit code and all that it said."""
    planted = dict.fromkeys(OTHER_SECRETS, PLANTED)
    environment = {**os.environ, **planted, "TMPDIR": str(temporary), "RAY_TMPDIR": str(temporary)}
    environment |= forks.environment

    def run(*words: str, **more: str) -> tuple[int, str]:
        command = [str(Path(sys.executable).with_name("bisieve")), *words]
        if words[0] in ("train", "evaluate"):
            command = forks.program(*command)
        done = subprocess.run(command, env=environment | more, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def readable(data: bytes) -> bytes:
    """A file's bytes as a search needs them: of Parquet, which is compressed, all values and all metadata."""
    if not data.startswith(b"PAR1"):
        return data
    file = pq.ParquetFile(BytesIO(data))
    return repr((file.read().to_pylist(), file.schema_arrow.metadata, file.metadata.metadata)).encode()


def test_no_secret_of_the_environment_is_said_or_written(s3: str, bisieve: Command, temporary: Path) -> None:
    corpus, there, events = str(temporary / "corpus"), f"{s3}/secrets", temporary / "events"
    events.mkdir()
    images, index, model = ["--image-root", corpus], f"{there}/index", f"{there}/model"
    benchmark = ["--benchmark", f"{corpus}/benchmark.jsonl", *images]
    selection = ["--index", index, "--fraction", "0.2", *images, "--output", model]
    backbone = ["--backbone", str(ROOT / "tests/fixtures/backbone")]
    conf = {
        "spark.eventLog.enabled": "true", "spark.eventLog.dir": str(events),
        "spark.eventLog.compress": "false",  # it is by default, and no search would find a thing
    }  # fmt: skip
    logged = [word for pair in conf.items() for word in ("--spark-conf", "=".join(pair))]
    evaluated = ["--model", model, *benchmark, "--output", f"{there}/metrics", "--workers", "1"]
    tracked = {"MLFLOW_TRACKING_URI": f"file://{temporary}/mlruns", "MLFLOW_ALLOW_FILE_STORE": "true"}
    trained = [*selection, *backbone, "--workers", "1", "--global-batch", "10", "--track", "mlflow"]
    with Arguments() as arguments:
        well = [
            bisieve("corpus", "--output", corpus, "--rollouts", "100", "--benchmark", "10"),
            bisieve(
                "score", "--input", f"{corpus}/annotations", "--index", index, "--log-format", "json", *logged
            ),
            bisieve("train", *trained, **tracked),
            bisieve("evaluate", *evaluated),
            bisieve("doctor", "--json", "--input", index, "--output", there),
        ]
    assert [code for code, _ in well] == [0] * 5, well
    failed = [
        bisieve("report", "--index", f"{there}/nothing"),
        bisieve("report", "--index", index, AWS_SECRET_ACCESS_KEY=f"{PLANTED}-wrong"),
        bisieve("train", *selection, "--backbone", f"{there}/nothing", "--restart"),
        bisieve("score", "--input", f"s3://somebody:{PLANTED}@corpus/a", "--index", index),
    ]
    assert all(code in (1, 2) for code, _ in failed), failed

    assert any(HARMLESS in line for line in arguments)
    assert [line for line in arguments if PLANTED in line] == []
    said = {f"output {number}": text.encode() for number, (_, text) in enumerate([*well, *failed])}
    stored = {file.url: read_bytes(file.url) for file in stored_files(there)}
    left = {str(file): file.read_bytes() for file in temporary.rglob("*") if file.is_file()}
    everything = {name: readable(data) for name, data in (said | stored | left).items()}
    found = [name for name, data in everything.items() if HARMLESS.encode() in data]
    for where in SEARCHED:
        assert any(re.search(where, name) for name in found), where
    secrets = [PLANTED.encode(), os.environ["AWS_SECRET_ACCESS_KEY"].encode()]
    assert [name for name, data in everything.items() if any(secret in data for secret in secrets)] == []
