"""`StepClient` gives what `StepScorer` gives, from a server that answers as vLLM does."""

import json
import math
import runpy
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image
from support.published import publish
from support.small_corpus import Corpus
from support.vllm_server import Served, serving_model

from bisieve.cli.main import run_command
from bisieve.errors import ImageError, TrainingError, UsageError
from ray_train import StepClient, StepScorer

COMPARE = Path(__file__).parents[3] / "examples/serving/compare_with_vllm.py"
STEPS = ["There are 3 bars.", "So the answer is 3."]


@pytest.fixture(scope="module")
def model(internvl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client") / "model"
    publish(internvl, folder)
    return folder


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Served]:
    with serving_model(model, max_length=1024) as served:
        yield served


@pytest.fixture(scope="module")
def client(server: Served) -> StepClient:
    return StepClient(server.url)


@pytest.fixture
def pictures() -> list[Image.Image]:
    gradient = Image.linear_gradient("L")
    clear = gradient.convert("RGBA")
    clear.putalpha(gradient.rotate(90))
    return [gradient.convert("RGB").resize((90, 40)), clear, gradient.resize((40, 90)).convert("I;16")]


QUESTIONS = [
    ("How many?", 0), ("How many?", 1), ("<image>\nHow many?", 1), ("Is <image2> above <image1>?", 2),
    ("How many?", 3), ("<image1>\nIs <image1> <image1>?", 1), (" spaces ", 1),
]  # fmt: skip


@pytest.mark.parametrize(("question", "images"), QUESTIONS)
def test_the_rewards_are_those_of_a_scorer(
    question: str, images: int, client: StepClient, server: Served, pictures: list[Image.Image]
) -> None:
    expected = server.scorer.score(question, pictures[:images], [*STEPS, " <image> "])
    found = client.score(question, pictures[:images], [*STEPS, " <image> "])
    assert found == pytest.approx(expected, abs=1e-6)
    sent = server.asked[-1].get("mm_processor_kwargs")
    most = {2: 3, 3: 2}.get(images)
    assert sent == (most and {"crop_to_patches": True, "min_patches": 1, "max_patches": most,
                              "use_fast": False})  # fmt: skip


def test_solutions_are_returned_in_their_order_and_an_image_may_be_a_path(
    client: StepClient, server: Served, pictures: list[Image.Image], tmp_path: Path
) -> None:
    pictures[0].save(tmp_path / "bars.png")
    asked: list[Any] = [(f"How many {n}?", [tmp_path / "bars.png"], STEPS[: 1 + n % 2]) for n in range(6)]
    found = client.score_batch(asked)
    for one, rewards in zip(asked, found, strict=True):
        assert rewards == pytest.approx(server.scorer.score(*one), abs=1e-5)


def test_steps_that_do_not_fit_and_reserved_tokens_have_no_reward_and_are_not_sent(
    client: StepClient, server: Served, pictures: list[Image.Image]
) -> None:
    steps = ["We think a little.", *["And then we think a lot more. " * 20] * 9]
    expected = server.scorer.score("Why?", pictures[:1], steps)
    found = client.score("Why?", pictures[:1], steps)
    assert list(map(math.isnan, found)) == list(map(math.isnan, expected))
    assert 1 < sum(map(math.isnan, found)) < len(steps)
    before = len(server.asked)
    assert all(map(math.isnan, client.score("Why?", [], ["<prm> is in the text."])))
    assert client.score("Why?", [], []) == []
    assert all(map(math.isnan, StepClient(server.url, max_length=20).score("Why?", pictures[:1], STEPS)))
    assert len(server.asked) == before


def test_a_broken_image_is_named(client: StepClient, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageError, match=r"image .*text\.png"):
        client.score("Why?", [tmp_path / "text.png"], STEPS)


def test_a_server_that_is_starting_or_busy_is_asked_again(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, expected = StepClient(server.url), server.scorer.score("Why?", [], STEPS)
    monkeypatch.setattr("ray_train.evaluation.step_client.PAUSE", 0.01)  # the server asks for an hour
    server.failing = 10
    assert client.score("Why?", [], STEPS) == pytest.approx(expected, abs=1e-6)
    server.failing = 100
    with pytest.raises(TrainingError, match="HTTP 503: starting"):
        client.score("Why?", [], STEPS)
    server.failing = 0


def test_a_server_that_does_not_answer_in_time_is_asked_once(server: Served) -> None:
    client, before = StepClient(server.url, timeout=0.2), len(server.asked)
    server.pause = lambda body: 1.0
    with pytest.raises(TrainingError, match=r"found none within 0\.2 seconds; look into the log"):
        client.score("Why?", [], STEPS)
    server.pause = lambda body: 0.0
    assert len(server.asked) == before + 1


def test_where_one_request_fails_the_others_are_not_waited_for(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = StepClient(server.url, workers=2)
    monkeypatch.setattr(server, "answer", b"[]")
    monkeypatch.setattr(server, "pause", lambda body: 6 * ("slow" in json.dumps(body)))
    begun = time.monotonic()
    with pytest.raises(TrainingError, match="found 0 of them"):
        client.score_batch([("Why?", [], STEPS), ("Why so slow?", [], STEPS)])
    assert time.monotonic() < begun + 4


@pytest.mark.parametrize(
    "models", [[], None, "text", {"data": []}, {"data": [{}]}, {"data": [{"id": "x", "max_model_len": "y"}]}]
)
def test_a_server_of_something_else_is_one_error(
    models: Any, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "models", models)
    with pytest.raises(TrainingError, match="expected the models of the server at http"):
        StepClient(server.url)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('{"data": [{"data": [[0.5], [NaN]]}]}', "found nan"),
        ('{"data": [{"data": [[0.5], [5.5]]}]}', "found 5.5"),
        ('{"data": [{"data": [[0.5]]}]}', "found 1 of them"),
        ('{"data": [{"data": [[0.5], [null]]}]}', "found 0 of them"),
        ("<html>", "found something else"),
        ("[" * 100_000, "found something else"),
    ],
)
def test_an_answer_without_a_reward_of_each_step_is_one_error(
    answer: str, found: str, client: StepClient, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "answer", answer.encode())
    with pytest.raises(TrainingError, match=found):
        client.score("Why?", [], STEPS)


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://localhost", "/models/mprm", "http://"])
def test_what_is_no_url_of_http_is_one_error(url: str) -> None:
    with pytest.raises(UsageError, match="expected a URL such as http://localhost:8000 as the server"):
        StepClient(url)


@pytest.mark.parametrize("key", ["sesame\n", " sesame", "s\u00e9same\u20ac"])
def test_a_key_that_no_header_can_have_is_one_error_without_it(
    key: str, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", key)
    with pytest.raises(UsageError, match="expected VLLM_API_KEY of printable ASCII") as refused:
        StepClient(server.url)
    assert "same" not in str(refused.value)


def test_several_images_need_a_server_that_trusts_its_clients(
    model: Path, pictures: list[Image.Image]
) -> None:
    with serving_model(model, trusting=False) as served:
        client = StepClient(served.url)
        assert len(client.score("How many?", pictures[:1], STEPS)) == 2
        with pytest.raises(TrainingError, match="start the server with --trust-request-mm-kwargs"):
            client.score("How many?", pictures[:2], STEPS)


def test_a_key_comes_from_the_environment(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_model(model, key="sesame") as served:
        with pytest.raises(TrainingError, match="set VLLM_API_KEY"):
            StepClient(served.url)
        monkeypatch.setenv("VLLM_API_KEY", "sesame")
        assert len(StepClient(served.url).score("Why?", [], STEPS)) == 2


def test_another_model_or_no_server_is_one_error(
    server: Served, internvl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrainingError, match=r"expected the card .* of the model that is served"):
        StepClient(server.url, str(internvl))
    publish(internvl, tmp_path / "other", run="other-1")
    with pytest.raises(
        TrainingError, match="expected a server with the model of run other-1; found run small"
    ):
        StepClient(server.url, str(tmp_path / "other"))
    far = {"data": [{"id": "mprm", "root": "/of/another/machine", "run": "other-2"}]}
    monkeypatch.setattr(server, "models", far)
    with pytest.raises(TrainingError, match="the model of run small-1; found run other-2"):
        StepClient(server.url, str(server.folder))
    monkeypatch.setattr("ray_train.evaluation.step_client.RETRIES", 0)
    with pytest.raises(TrainingError, match="found Connection refused; start it with: vllm serve FOLDER"):
        StepClient("http://127.0.0.1:9")
    with socket.create_server(("127.0.0.1", 0)) as ending:
        port = ending.getsockname()[1]
        Thread(target=lambda: ending.accept()[0].close()).start()
        with pytest.raises(TrainingError, match=r"found (Remote end closed|Connection reset by peer)"):
            StepClient(f"http://127.0.0.1:{port}")


def test_evaluate_and_best_of_ask_a_server_and_start_no_ray(
    server: Served, model: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--model", str(model), "--image-root", corpus.images, "--server", server.url]
    options = [*common, "--benchmark", corpus.benchmark, "--output", str(tmp_path / "metrics")]
    assert run_command("ray_train.cli.evaluate", options) == 0
    printed = capsys.readouterr().out
    assert "asking the server at" in printed
    assert "worker" not in printed
    lines = [json.loads(line) for line in (tmp_path / "metrics/scores.jsonl").read_text().splitlines()]
    assert len(lines) == 24
    solution = json.loads(Path(corpus.benchmark).read_text().splitlines()[0])
    images = [f"{corpus.images}/{name}" for name in solution["image"]]
    expected = server.scorer.score(solution["question"], images, solution["response"]["steps"])
    assert lines[0]["rewards"] == pytest.approx(expected, abs=1e-5)
    assert "| benchmark.jsonl (" in (model / "README.md").read_text(), "the page has the results"
    record = {"question": "What is 3?", "image": "3.png", "answer": "7",
              "responses": [["I look.", "Final answer: 7"], ["Final answer: 8"]]}  # fmt: skip
    (tmp_path / "candidates.jsonl").write_text(json.dumps(record))
    files = ["--candidates", str(tmp_path / "candidates.jsonl"), "--output", str(tmp_path / "picks")]
    assert run_command("ray_train.cli.best_of", [*common, *files]) == 0
    (picked,) = (tmp_path / "picks/picks.jsonl").read_text().splitlines()
    assert [len(each["rewards"]) for each in json.loads(picked)["responses"]] == [2, 1]


@pytest.mark.parametrize(("option", "value"), [("--risk", "1"), ("--prompt", "paper-eval")])
def test_what_a_server_cannot_do_is_refused(
    option: str, value: str, server: Served, model: Path, corpus: Corpus, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    options = ["--model", str(model), "--image-root", corpus.images, "--server", server.url, option, value]
    options += ["--benchmark", corpus.benchmark, "--output", str(tmp_path / "metrics")]
    assert run_command("ray_train.cli.evaluate", options) == 2
    assert f"expected no {option} with --server" in capsys.readouterr().err


def test_predict_asks_a_server(
    server: Served, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps({"question": "Why?", "steps": STEPS}))
    url = server.url.replace("://", "://me:sesame@")  # of a proxy that asks for a password
    words = ["--model", str(model), "--input", str(tmp_path / "in.jsonl"), "--server", url]
    assert run_command("ray_train.cli.predict", [*words, "--output", str(tmp_path / "out.jsonl")]) == 0
    assert "sesame" not in "".join(capsys.readouterr())
    found = json.loads((tmp_path / "out.jsonl").read_text())["rewards"]
    assert found == pytest.approx(StepScorer(str(model)).score("Why?", [], STEPS), abs=1e-5)


def test_the_example_that_compares_with_vllm_measures_the_difference(
    server: Served, model: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = ["--model", str(model), "--benchmark", corpus.benchmark, "--image-root", corpus.images]
    monkeypatch.setattr("sys.argv", [str(COMPARE), *words, "--server", server.url])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(COMPARE), run_name="__main__")
    assert ended.value.code == 0
    *_, spread, last = capsys.readouterr().out.splitlines()
    assert spread.startswith("rewards of 72 steps: 0.")
    assert last.startswith("largest difference: ")
    monkeypatch.setattr("sys.argv", [str(COMPARE), *words, "--server", server.url, "--tolerance", "-1"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(COMPARE), run_name="__main__")
    assert ended.value.code == 1
