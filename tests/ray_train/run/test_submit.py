"""``ray job submit``: the entry points on a Ray that was started before, as the README shows it."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil
import pytest
from conftest import Corpus, check_learned_the_same, small_run

from ray_train.config import TrainConfig

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
PORTS = (
    "port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port", "runtime-env-agent-port", "metrics-export-port",
)  # fmt: skip

Submit = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def submit(free_ports: Callable[..., dict[str, int]]) -> Iterator[Submit]:
    """Submits one of our scripts to a Ray head of our own, with token authentication."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: it holds sockets
    (folder / "token").write_text("c0ffee" * 8)
    ports = free_ports(*PORTS)
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    command = [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", f"--temp-dir={folder}"]
    command += ["--node-ip-address=127.0.0.1", *(f"--{name}={port}" for name, port in ports.items())]
    with open(folder / "log", "w") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        _wait_until_up(address, (folder / "token").read_text(), folder / "log")

        def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
            runtime = json.dumps({"env_vars": {"PYTHONPATH": "lib:."}})
            words = ["ray", "job", "submit", "--address", address, "--working-dir", ".", "--runtime-env-json"]
            return subprocess.run(
                [*words, runtime, "--", "python", script, *arguments],
                cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip

        yield run
    finally:
        # Ray itself would take half a minute to end what it started.
        for process in [*psutil.Process(head.pid).children(recursive=True), head]:
            process.kill()
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_up(address: str, token: str, log: Path) -> None:
    request = Request(f"{address}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    for _ in range(120):
        try:
            with urlopen(request, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"Ray did not come up:\n{log.read_text()[-2000:]}")


def test_a_submitted_job_of_one_worker_learns_on_the_running_cluster_what_two_learn_here(
    submit: Submit, corpus: Corpus, internvl: Path, trained: TrainConfig, tmp_path: Path
) -> None:
    rows = {"workers": 1, "pack_tokens": 0, "micro_batch": 4}
    options = {**small_run(corpus, internvl, str(tmp_path / "model")), **rows}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    done = submit("ray_train/train_mprm.py", *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "rollouts/s" in done.stdout
    check_learned_the_same(str(tmp_path / "model"), trained.output)


def test_a_submitted_job_that_cannot_run_says_why_in_one_line_and_fails(
    submit: Submit, tmp_path: Path
) -> None:
    done = submit(
        "ray_train/evaluate_mprm.py", *shlex.split("--model typo --benchmark typo --image-root typo"),
        "--output", str(tmp_path / "metrics"),
    )  # fmt: skip
    assert done.returncode == 1
    assert "bisieve: error: expected" in done.stdout
    assert not (tmp_path / "metrics").exists()
