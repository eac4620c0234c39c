"""`bisieve serve` on a real Ray Serve, as users start it: its lines, its answers, and its end."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from PIL import Image
from support.served_model import STEPS, as_png, data_url, posted

from bisieve.cli.main import run_command
from ray_train import StepClient, StepScorer

pytestmark = pytest.mark.ray


class Running:
    """A server in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        assert process.stdout is not None
        self.process, self.log, self.lines = process, log, []
        for line in process.stdout:
            self.lines.append(line)
            if ready := re.match(r"ready: (http://127\.0\.0\.1:\d+); Ctrl-C ends it\n", line):
                self.url = ready[1]
                return
        raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def running(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    log = tmp_path_factory.mktemp("serve") / "log"
    words = ["--model", str(published), "--port", "0", "--max-steps", "5000"]
    command = [sys.executable, "-m", "bisieve", "serve", *words]
    with (
        open(log, "w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            yield Running(process, log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)


def test_its_lines_are_those_of_bisieve(running: Running) -> None:
    assert [line.split(";")[0].split(": ")[0] for line in running.lines] == [
        "importing torch, transformers and Ray\n", "starting Ray on this machine\n",
        "loading the model in 1 replica\n", "ready",
    ]  # fmt: skip


def test_it_answers_as_a_scorer_and_as_vllm(running: Running, published: Path) -> None:
    picture = Image.linear_gradient("L").convert("RGB").resize((90, 40))
    candidates = [[*STEPS[:1], f"So {number}."] for number in range(20)]
    scorer = StepScorer(str(published))
    expected = scorer.score_batch([("How many?", [picture], steps) for steps in candidates])
    body = {"question": "How many?", "image": data_url(as_png(picture)), "candidates": candidates}
    status, answer = posted(f"{running.url}/score", body)
    assert status == 200
    client = StepClient(running.url).score_batch([("How many?", [picture], steps) for steps in candidates])
    for one, asked, rewards in zip(answer["candidates"], client, expected, strict=True):
        assert one["rewards"] == pytest.approx(rewards, abs=1e-6)
        assert asked == pytest.approx(rewards, abs=1e-6)
    assert requests.get(f"{running.url}/health", timeout=60).json()["status"] == "ok"
    (model,) = requests.get(f"{running.url}/v1/models", timeout=60).json()["data"]
    assert (model["id"], model["root"]) == (str(published), str(published))


def test_a_broken_image_is_refused_by_the_replica(running: Running) -> None:
    cut = as_png(Image.effect_noise((64, 64), 50).convert("RGB"))[:2000]
    status, answer = posted(f"{running.url}/score", {"question": "Q", "steps": STEPS, "image": data_url(cut)})
    assert (status, answer["error"]["hint"]) == (422, "send another image")


def test_a_port_that_is_taken_is_one_error_before_ray_starts(
    running: Running, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = running.url.rpartition(":")[2]
    assert run_command("ray_train.cli.serve", ["--model", str(published), "--port", port]) == 2
    assert f"found 127.0.0.1:{port}: Address already in use" in capsys.readouterr().err


def test_sigterm_answers_what_is_in_flight_and_leaves_nothing(running: Running) -> None:
    """The last test of the file: it ends the server."""
    children = psutil.Process(running.process.pid).children(recursive=True)
    body = {"question": "Why?", "candidates": [[f"Step {n} of many. " * 20] * 8 for n in range(8)]}
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(posted(f"{running.url}/score", body)[0]))
    asking.start()
    while "in_flight 1.0" not in requests.get(f"{running.url}/metrics", timeout=60).text:
        time.sleep(0.01)
    running.process.send_signal(signal.SIGTERM)
    asking.join()
    assert answers == [200]
    assert running.process.wait(120) == 143
    assert re.fullmatch(r"bisieve: terminated; \d+ requests answered\n", running.log.read_text())
    _gone, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert running.process.stdout is not None
    assert running.process.stdout.read() == ""
