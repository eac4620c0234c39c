"""`bisieve serve` on a real Ray Serve, as users start it: its lines, its answers, and its end."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests
from PIL import Image
from support.served_model import STEPS, as_png, data_url, posted

from bisieve.cli.main import run_command
from bisieve.errors import UsageError
from ray_train import StepClient, StepScorer
from ray_train.serving.application import Server
from ray_train.serving.config import ServeConfig
from ray_train.serving.question import Question, Scored, Served
from ray_train.serving.server import _listening, _run

pytestmark = pytest.mark.ray


class Running:
    """A server in a process of its own, which has printed a line that begins with ``until``."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path, until: str) -> None:
        assert process.stdout is not None
        self.process, self.log, self.lines = process, log, []
        for line in process.stdout:
            self.lines.append(line)
            if line.startswith(until):
                return
        raise AssertionError(log.read_text())

    @property
    def url(self) -> str:
        """Where it answers."""
        ready = re.fullmatch(r"ready: (http://127\.0\.0\.1:\d+); Ctrl-C ends it\n", self.lines[-1])
        assert ready
        return ready[1]

    def ended(self) -> tuple[int, str]:
        """Wait for its end: its exit code and stderr; no process of it may be left, nor a line on stdout."""
        code = self.process.wait(120)
        _gone, alive = psutil.wait_procs(self._children, timeout=20)
        assert not alive
        assert self.process.stdout is not None
        assert self.process.stdout.read() == ""
        return code, self.log.read_text()

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)


@contextmanager
def started(model: Path, folder: Path, until: str) -> Iterator[Running]:
    log = folder / "log"
    words = ["--model", str(model), "--port", "0", "--max-steps", "5000"]
    command = [sys.executable, "-m", "bisieve", "serve", *words]
    with (
        open(log, "w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            yield Running(process, log, until)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def running(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(published, tmp_path_factory.mktemp("serve"), "ready: ") as running:
        yield running


@pytest.mark.parametrize(
    ("until", "number", "code", "word"),
    [("starting Ray", signal.SIGINT, 130, "interrupted"),
     ("loading the model", signal.SIGTERM, 143, "terminated")],
)  # fmt: skip
def test_a_signal_before_it_answers_ends_it_in_one_line(
    until: str, number: int, code: int, word: str, published: Path, tmp_path: Path
) -> None:
    with started(published, tmp_path, until) as starting:
        starting.send(number)
        assert starting.ended() == (code, f"bisieve: {word}; nothing half-written was made visible\n")


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


def test_a_host_with_a_null_character_is_one_error(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("ray_train.cli.serve", ["--model", str(published), "--host", "a\0b"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a free --port of this --host" in line


def test_a_port_that_another_took_while_the_model_was_loading_is_one_error(served: Served) -> None:
    first = ServeConfig(model="model", port=0)
    with _listening(first) as ours:
        config = ServeConfig(model="model", port=ours.getsockname()[1])
        with _listening(config) as other:
            other.listen()
            with pytest.raises(UsageError, match=f"127.0.0.1:{config.port}: Address already in use"):
                _run(Server(served, config, _never_asked, lambda: True), ours, 1, pytest.fail)


@pytest.mark.usefixtures("ctrl_c_as_python_has_it")
@pytest.mark.parametrize(("presses", "grace", "when"), [(1, 1, " after 1 s"), (2, 60, "")])
def test_its_last_line_says_when_a_request_was_cut_off(
    presses: int, grace: int, when: str, served: Served
) -> None:
    config, answers = ServeConfig(model="model", port=0, grace=grace), []
    server = Server(served, config, _asked_for_long, lambda: True)
    main_thread = threading.get_ident()
    with _listening(config) as ours:
        address = ours.getsockname()

        def ask_and_press() -> None:
            url, body = f"http://127.0.0.1:{address[1]}/score", {"question": "Why?", "steps": STEPS}
            asking = threading.Thread(target=lambda: answers.append(posted(url, body)[0]))
            asking.start()
            while not server.in_flight:
                time.sleep(0.01)
            signal.pthread_kill(main_thread, signal.SIGINT)
            if presses == 2:
                while _is_open(address):  # until the first is handled: two at once would be one
                    time.sleep(0.01)
                signal.pthread_kill(main_thread, signal.SIGINT)
            asking.join()

        pressing = threading.Thread(target=ask_and_press)
        with pytest.raises(KeyboardInterrupt) as ended:
            _run(server, ours, config.grace, pressing.start)
        pressing.join()
    assert answers == [503]
    assert ended.value.__notes__ == [f"0 requests answered, 1 cut off{when}"]


def _is_open(address: tuple[str, int]) -> bool:
    with socket.socket() as client:
        return client.connect_ex(address) == 0


async def _asked_for_long(asked: Question) -> Scored:
    await asyncio.sleep(60)
    raise AssertionError(asked)


async def _never_asked(asked: Question) -> Scored:
    raise AssertionError(asked)


def test_a_token_that_no_header_can_have_is_one_error(
    published: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BISIEVE_SERVE_TOKEN", "sesame\n")
    assert run_command("ray_train.cli.serve", ["--model", str(published), "--port", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected BISIEVE_SERVE_TOKEN of printable ASCII; found a space, an end of line" in line


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("there-is-none", "the hub does not answer"),
        ("{tmp}", "a backbone of type"),
        ("{tmp}/nothing", "none"),
    ],
)
def test_what_is_no_model_is_one_error_before_ray_starts(
    model: str, found: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert run_command("ray_train.cli.serve", ["--model", model.format(tmp=tmp_path), "--port", "0"]) == 1
    said = capsys.readouterr()
    assert found in said.err
    assert "starting Ray" not in said.out


def test_sigterm_answers_what_is_in_flight_and_leaves_nothing(running: Running) -> None:
    """The last test of the file: it ends the server."""
    body = {"question": "Why?", "candidates": [[f"Step {n} of many. " * 20] * 8 for n in range(8)]}
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(posted(f"{running.url}/score", body)[0]))
    asking.start()
    while "in_flight 1.0" not in requests.get(f"{running.url}/metrics", timeout=60).text:
        time.sleep(0.01)
    running.send(signal.SIGTERM)
    asking.join()
    assert answers == [200]
    code, said = running.ended()
    assert code == 143
    assert re.fullmatch(r"bisieve: terminated; \d+ requests answered\n", said)
