"""The HTTP side of `bisieve serve` with a real model, in this process: rewards, limits, errors, metrics."""

import asyncio
import gc
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image
from support.served_model import STEPS, answering, as_png, data_url, judge_of, posted
from support.small_corpus import Corpus

from bisieve.cli.main import run_command
from bisieve.errors import TrainingError
from ray_train import StepClient, StepScorer
from ray_train.serving.application import Server
from ray_train.serving.judge import Judge
from ray_train.serving.question import Question, RefusedError, Scored, Served

LIMITS = {"max_body": 0.1, "max_pixels": 40_000, "max_steps": 40, "batch": 4}


@pytest.fixture(scope="module")
def judge(published: Path) -> Judge:
    return judge_of(published, **LIMITS)[0]


@pytest.fixture(scope="module")
def server(judge: Judge) -> Server:
    about = judge.served()
    assert isinstance(about, Served)
    return Server(about, judge._config, judge.score, lambda: True)


@pytest.fixture(scope="module")
def url(server: Server) -> Iterator[str]:
    with answering(server) as url:
        yield url


@pytest.fixture(scope="module")
def scorer(published: Path) -> StepScorer:
    return StepScorer(str(published))


@pytest.fixture
def picture() -> Image.Image:
    return Image.linear_gradient("L").convert("RGB").resize((90, 40))


def test_the_rewards_are_those_of_a_scorer(url: str, scorer: StepScorer, picture: Image.Image) -> None:
    for images in ([], [picture], [picture, picture.rotate(180)]):
        body = {"question": "How many?", "image": [data_url(as_png(each)) for each in images], "steps": STEPS}
        status, answer = posted(f"{url}/score", body)
        assert status == 200
        assert answer["rewards"] == pytest.approx(scorer.score("How many?", images, STEPS), abs=1e-6)


def test_candidates_of_a_question_are_scored_in_batches(
    url: str, scorer: StepScorer, picture: Image.Image
) -> None:
    candidates = [[*STEPS[:1], f"So the answer is {number}."] for number in range(7)]
    body = {"question": "How many?", "image": data_url(as_png(picture)), "candidates": candidates}
    status, answer = posted(f"{url}/score", body)
    assert status == 200
    expected = scorer.score_batch([("How many?", [picture], steps) for steps in candidates])
    for one, rewards in zip(answer["candidates"], expected, strict=True):
        assert one["rewards"] == pytest.approx(rewards, abs=1e-6)
    assert set(answer["best"]) == {"mean", "min", "last", "product", "max"}
    sizes = re.search(r"batch_solutions_sum ([\d.]+)", requests.get(f"{url}/metrics", timeout=60).text)
    assert sizes
    assert float(sizes[1]) >= 7


@pytest.mark.parametrize(
    ("question", "images"),
    [("How many?", 0), ("<image>\nHow many?", 1), ("Is <image2> above <image1>?", 2),
     ("<image>\nIs <image> it?", 1)],
)  # fmt: skip
def test_a_client_gets_from_it_what_a_scorer_gives(
    question: str, images: int, url: str, scorer: StepScorer, picture: Image.Image
) -> None:
    client = StepClient(url)
    pictures = [picture, picture.rotate(180)][:images]
    expected = scorer.score(question, pictures, STEPS)
    assert client.score(question, pictures, STEPS) == pytest.approx(expected, abs=1e-6)
    many = [(question, pictures, [*STEPS[:1], f"So {n}."]) for n in range(12)]
    for found, rewards in zip(client.score_batch(many), scorer.score_batch(many), strict=True):
        assert found == pytest.approx(rewards, abs=1e-6)


def test_commands_ask_it_as_they_ask_vllm(url: str, published: Path, corpus: Corpus, tmp_path: Path) -> None:
    common = ["--model", str(published), "--image-root", corpus.images, "--server", url]
    options = [*common, "--benchmark", corpus.benchmark, "--output", str(tmp_path / "metrics")]
    assert run_command("ray_train.cli.evaluate", options) == 0
    assert len((tmp_path / "metrics/scores.jsonl").read_text().splitlines()) == 24
    record = {"question": "What is 3?", "image": "3.png", "answer": "7",
              "responses": [["I look.", "Final answer: 7"], ["Final answer: 8"]]}  # fmt: skip
    (tmp_path / "candidates.jsonl").write_text(json.dumps(record))
    files = ["--candidates", str(tmp_path / "candidates.jsonl"), "--output", str(tmp_path / "picks")]
    assert run_command("ray_train.cli.best_of", [*common, *files]) == 0
    (picked,) = (tmp_path / "picks/picks.jsonl").read_text().splitlines()
    assert [len(each["rewards"]) for each in json.loads(picked)["responses"]] == [2, 1]


def test_equal_images_of_requests_in_flight_are_decoded_once(judge: Judge, picture: Image.Image) -> None:
    before = len(judge._images)
    (first,) = judge._decoded([as_png(picture)])
    (second,) = judge._decoded([as_png(picture)])
    assert second is first
    assert len(judge._images) == before + 1
    del first, second
    assert len(judge._images) == before, "no image is kept beyond its requests"


def test_one_bad_image_does_not_spoil_the_batch_of_others(
    url: str, scorer: StepScorer, picture: Image.Image
) -> None:
    good = {"question": "Why?", "image": data_url(as_png(picture)), "steps": STEPS}
    cut = as_png(Image.effect_noise((64, 64), 50).convert("RGB"))[:2000]
    bodies = [good, {**good, "image": data_url(cut)}] * 4
    answers: list[Any] = [None] * len(bodies)

    def ask(place: int) -> None:
        answers[place] = posted(f"{url}/score", bodies[place])

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = scorer.score("Why?", [picture], STEPS)
    for status, answer in answers[::2]:
        assert (status, answer["rewards"]) == (200, pytest.approx(expected, abs=1e-6))
    for status, answer in answers[1::2]:
        assert status == 422
        assert "an image that can be decoded in image 1" in answer["error"]["expected"]
        assert "truncated" in answer["error"]["found"]


def test_a_body_above_the_limit_is_refused_however_it_is_sent(url: str) -> None:
    body = {"question": "Why?", "steps": ["A" * 200_000]}
    status, answer = posted(f"{url}/score", body)
    assert (status, answer["error"]["expected"]) == (413, "a body of at most 100,000 bytes")
    chunks = iter([b'{"question": "', *[b"A" * 50_000] * 4])
    assert requests.post(f"{url}/score", chunks, timeout=60).status_code == 413


def test_an_error_is_json_with_its_parts(url: str, picture: Image.Image) -> None:
    large = data_url(as_png(picture.resize((300, 200))))
    for path, body, status in (
        ("/score", {"question": "Why?", "steps": ["A"] * 41}, 413),
        ("/score", {"question": "Why?", "steps": ["A"], "image": large}, 413),
        ("/score", {"question": "Why?", "steps": ["<prm>"]}, 422),
        ("/pooling", {"messages": []}, 400),
        ("/pooling", b"", 400),
        ("/v1/pooling", b"[]", 400),
        ("/nothing", b"{}", 404),
        ("/health", b"{}", 405),
    ):
        found, answer = posted(url + path, body)
        assert found == status, (path, body)
        error = answer["error"]
        assert {"message", "expected", "found", "hint", "type", "code"} == set(error)
        assert error["code"] == status
        assert error["message"].startswith("expected ")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("OPTIONS", "/score", {"POST"}), ("GET", "/pooling", {"POST"}), ("DELETE", "/health", {"GET", "HEAD"})],
)
def test_another_method_is_refused_with_those_that_there_are(
    url: str, method: str, path: str, allowed: set[str]
) -> None:
    answer = requests.request(method, url + path, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, 405)
    assert set(answer.headers["Allow"].split(", ")) == allowed


def test_a_page_of_another_site_is_refused(url: str) -> None:
    body = {"question": "Why?", "steps": STEPS}
    status, answer = posted(f"{url}/score", body, headers={"Origin": "https://elsewhere.example"})
    assert (status, answer["error"]["found"]) == (403, "one of a page in a browser")


def test_text_beyond_the_length_limit_has_no_reward_or_is_refused(published: Path) -> None:
    judge, config = judge_of(published, max_length=300)
    about = judge.served()
    assert isinstance(about, Served)
    steps = ["We think.", "And then we think a lot more. " * 40]
    parts = [{"type": "text", "text": each} for each in steps]
    with answering(Server(about, config, judge.score, lambda: True)) as url:
        _, answer = posted(f"{url}/score", {"question": "Why?", "steps": steps})
        assert answer["rewards"][0] > 0
        assert answer["rewards"][1] is None
        messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": parts}]
        status, answer = posted(f"{url}/pooling", {"task": "token_classify", "messages": messages})
        assert (status, answer["error"]["expected"]) == (422, "a solution of at most 300 tokens")
        assert [r == r for r in StepClient(url).score("Why?", [], steps)] == [True, False]


def test_a_full_queue_asks_to_come_back_and_health_tells_of_replicas(server: Server) -> None:
    free = threading.Event()
    healthy = True

    async def slow(asked: Question) -> Scored | RefusedError:
        await asyncio.to_thread(free.wait, 60)
        return Scored([[0.5] * len(asked.solutions[0])], [1])

    config = type(server.config)(model="m", max_queue=2)
    body = {"question": "Why?", "steps": STEPS}
    full = Server(server.served, config, slow, lambda: healthy)
    with answering(full) as url:
        found: list[int] = []
        waiting = [threading.Thread(target=lambda: found.append(posted(f"{url}/score", body)[0]))
                   for _ in range(2)]  # fmt: skip
        for thread in waiting:
            thread.start()
        while full.in_flight < 2:
            threading.Event().wait(0.01)
        answer = requests.post(f"{url}/score", json=body, timeout=60)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json()["error"]["expected"] == "at most 2 requests at once"
        assert requests.get(f"{url}/health", timeout=60).status_code == 200
        healthy = False
        assert requests.get(f"{url}/health", timeout=60).status_code == 503
        free.set()
        for thread in waiting:
            thread.join()
    assert found == [200, 200]


def test_who_waits_when_the_server_ends_is_told_so(server: Server) -> None:
    async def cancelled(asked: Question) -> Scored | RefusedError:
        raise asyncio.CancelledError  # as uvicorn does when the time for requests in flight is over

    ending = Server(server.served, server.config, cancelled, lambda: True)
    with answering(ending) as url:
        status, answer = posted(f"{url}/score", {"question": "Why?", "steps": STEPS})
    assert (status, answer["error"]["found"]) == (503, "a server that ends")
    assert (ending.cut_off, ending.metrics.answered) == (1, 0)


def test_a_token_is_wanted_where_there_is_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = Server(server.served, server.config, server.ask, lambda: True, token="sesame")
    with answering(locked) as url:
        status, answer = posted(f"{url}/score", {"question": "Why?", "steps": STEPS})
        assert (status, answer["error"]["found"]) == (401, "none")
        assert requests.get(f"{url}/metrics", timeout=60).status_code == 401
        assert requests.get(f"{url}/health", timeout=60).status_code == 200, "probes have no token"
        with pytest.raises(TrainingError, match="set VLLM_API_KEY"):
            StepClient(url)
        monkeypatch.setenv("VLLM_API_KEY", "sesame")
        assert len(StepClient(url).score("Why?", [], STEPS)) == 2


def test_a_fault_of_ours_is_one_line_and_no_traceback(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(asked: Question) -> Scored | RefusedError:
        raise RuntimeError("a fault")

    with answering(Server(server.served, server.config, broken, lambda: True)) as url:
        status, answer = posted(f"{url}/score", {"question": "Why?", "steps": STEPS})
    assert (status, answer["error"]["found"]) == (500, "RuntimeError")
    assert capsys.readouterr().err == "error: a request failed: RuntimeError: a fault\n"


def test_a_client_that_goes_away_leaves_no_place_taken(server: Server, url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as gone:
        gone.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        while not server.in_flight:
            threading.Event().wait(0.01)
    while server.in_flight:
        threading.Event().wait(0.01)
    assert posted(f"{url}/score", {"question": "Why?", "steps": STEPS})[0] == 200


def test_a_refused_request_leaves_neither_its_body_nor_its_error_in_memory(server: Server) -> None:
    """Nothing of it may wait for Python's collector, which commands let run seldom: bodies are large."""

    async def refusing(asked: Question) -> Scored | RefusedError:
        return RefusedError("an image", "none", "send another image")

    with answering(Server(server.served, server.config, refusing, lambda: True)) as url:
        gc.collect()
        gc.disable()
        try:
            posted(f"{url}/score", b'{"question": "' + b"A" * 90_000)  # refused in a thread, as no JSON
            posted(f"{url}/score", {"question": "Why?", "steps": ["<prm>"]})
            posted(f"{url}/score", {"question": "Why?", "steps": STEPS})  # refused by the replica
            requests.post(f"{url}/score", iter([b"A" * 150_000]), timeout=60)
            left = [each for each in gc.get_objects() if isinstance(each, RefusedError)]
        finally:
            gc.enable()
    assert left == []


def test_metrics_count_answers_by_status(url: str) -> None:
    posted(f"{url}/score", {"question": "Why?", "steps": STEPS})
    posted(f"{url}/score", b"{")
    text = requests.get(f"{url}/metrics", timeout=60).text
    for name in (
        'requests_total{path="/score",status="200"}', 'requests_total{path="/score",status="400"}',
        "steps_total", "solutions_total", "seconds_count", "in_flight 0.0",
    ):  # fmt: skip
        assert f"bisieve_serve_{name}" in text
    assert "process_resident_memory_bytes" in text
