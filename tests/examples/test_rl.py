"""Each file of examples/rl takes what its trainer sends, and returns what the trainer expects.

The trainers are not installed: each test names the version whose source it was written after, and calls the
file as that version does.
"""

import asyncio
import importlib.util
import inspect
import json
import math
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from support.backbones import build_internvl

from bisieve.errors import TrainingError, UsageError
from ray_train import SolutionScorer, StepScorer

FOLDER = Path(__file__).parents[2] / "examples/rl"
TEXT = "The bars are 3, 7 and 5 high.\n\nThe middle one is the highest."
LONG = TEXT + "\n\nbeyond"  # of which `Fake` scores two steps
REWARD, UNSCORED = pytest.approx((0.9 + 0.4) / 2), "beyond"


class Fake:
    """Gives the steps of a solution 0.9 and 0.4, and NaN to those that have "beyond" in them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[Any], list[str]]] = []

    def score_batch(self, solutions: Sequence[Any]) -> list[list[float]]:
        self.asked += [(question, list(images), list(steps)) for question, images, steps in solutions]
        return [
            [math.nan if UNSCORED in step else (0.9, 0.4)[place % 2] for place, step in enumerate(steps)]
            for _, _, steps in solutions
        ]


def loaded(name: str) -> ModuleType:
    """Load a file by its path, as verl, ms-swift and OpenRLHF do."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fake() -> Fake:
    return Fake()


def adapter(name: str, judge: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = loaded(name)
    monkeypatch.setattr(module, "scorer", lambda *_: SolutionScorer(judge))
    return module


# --- verl 0.9.1: NaiveRewardManager.run_single ---


def verl_result(module: ModuleType, solution: str, extra_info: dict[str, Any]) -> dict[str, float]:
    assert inspect.iscoroutinefunction(module.compute_score), "else verl calls it in a thread of its own"
    sent = {"data_source": "charts", "solution_str": solution, "ground_truth": "middle",
            "extra_info": extra_info | {"num_turns": 2, "rollout_reward_scores": {}}}  # fmt: skip
    kwargs = {"server": "http://localhost:8000", "model": "models/mprm"}  # of the configuration
    own = {"reward_router_address": "127.0.0.1:1", "reward_model_tokenizer": None}  # of a model of verl's
    inspect.signature(module.compute_score).bind(**sent, **kwargs, **own)
    return asyncio.run(module.compute_score(**sent, **kwargs))


def test_verl_gets_a_score_and_always_the_same_keys(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    module = adapter("verl_reward", fake, monkeypatch)
    record = {"question": "Which bar?", "images": ["a.png", "b.png"]}
    assert verl_result(module, LONG, record) == {"score": REWARD, "steps": 3.0, "unscored_steps": 1.0}
    assert fake.asked == [("Which bar?", ["a.png", "b.png"], LONG.split("\n\n"))]
    assert verl_result(module, "", record) == {"score": 0.0, "steps": 0.0, "unscored_steps": 0.0}
    assert verl_result(module, "beyond", {"question": "Which bar?"})["score"] == 0.0
    with pytest.raises(UsageError, match="expected question in extra_info of charts; found index, num_turns"):
        verl_result(module, TEXT, {"index": 3})


def test_verl_learns_at_once_that_the_server_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    module = loaded("verl_reward")

    def failing(*_: str) -> SolutionScorer:
        time.sleep(0.2)
        raise TrainingError("a server", "none", "start it")

    async def seconds() -> float:
        """Return how long it takes until the first of many coroutines of a worker has failed."""
        begun = time.monotonic()
        rollouts = [module.compute_score("charts", TEXT, "", {"question": "Which bar?"}) for _ in range(20)]
        with pytest.raises(TrainingError, match="expected a server; found none; start it"):
            await asyncio.gather(*rollouts)
        return time.monotonic() - begun

    monkeypatch.setattr(module, "scorer", failing)
    assert asyncio.run(seconds()) < 2


# --- OpenRLHF 0.11.2: SingleTurnAgentExecutor ---

PROMPT = "<|im_start|>user\n<img>Which bar?<|im_end|>\n<|im_start|>assistant\n"
QUERY = PROMPT.replace("<img>", "<img>" * 200) + TEXT + "<|im_end|>"
LABEL = {"question": "Which bar?", "images": ["a.png", "b.png"]}


@pytest.fixture
def reward_server(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    module = adapter("openrlhf_reward", fake, monkeypatch)
    with module.RewardServer(("127.0.0.1", 0), module.RewardHandler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/get_reward"
        server.shutdown()


def posted(url: str, **payload: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(payload).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.parametrize("label", [LABEL, json.dumps(LABEL)], ids=["object", "text"])
def test_openrlhf_gets_lists_of_numbers_for_its_query(reward_server: str, fake: Fake, label: Any) -> None:
    answer = posted(reward_server, query=[QUERY], prompts=[PROMPT], labels=[label])
    assert answer == {
        "rewards": [REWARD], "scores": [REWARD], "extra_logs": {"steps": [2.0], "unscored_steps": [0.0]}
    }  # fmt: skip
    assert fake.asked == [("Which bar?", ["a.png", "b.png"], TEXT.split("\n\n"))]


def test_openrlhf_never_gets_nan(reward_server: str) -> None:
    queries = [PROMPT + "<|im_end|>", PROMPT + "beyond", PROMPT + LONG]
    answer = posted(reward_server, query=queries, prompts=[PROMPT] * 3, labels=[LABEL] * 3)
    assert answer["rewards"] == [0.0, 0.0, REWARD]
    assert answer["extra_logs"] == {"steps": [0.0, 1.0, 3.0], "unscored_steps": [0.0, 1.0, 1.0]}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"labels": ["middle"]}, "expected a label with question and images; found 'middle'"),
        ({"labels": [{"images": []}]}, "expected a label with question"),
        ({"labels": []}, "ValueError"),
        ({"query": ["something else"]}, "expected the end of its prompt in a query"),
        ({"labels": [{"question": "Q", "images": 3}]}, "expected a path, a URL, bytes"),
        ({"labels": [{"question": None}]}, "expected a text as question; found None"),
        ({"labels": ["[" * 100_000]}, "expected a label with question and images"),
        ({"labels": [{"question": "Q", "images": "data:image/png;base64,\u00e9"}]}, "expected a path, a URL"),
    ],
)
def test_openrlhf_learns_why_a_request_is_refused(
    reward_server: str, changed: dict[str, Any], reason: str
) -> None:
    payload = {"query": [QUERY], "prompts": [PROMPT], "labels": [LABEL]} | changed
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        posted(reward_server, **payload)
    assert reason in json.load(refused.value)["error"]


def test_openrlhf_learns_of_a_model_that_fails(
    reward_server: str, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(solutions: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(fake, "score_batch", failing)
    with pytest.raises(urllib.error.HTTPError, match="500") as failed:
        posted(reward_server, query=[QUERY], prompts=[PROMPT], labels=[LABEL])
    assert json.load(failed.value) == {"error": "RuntimeError: out of memory"}


def test_a_trainer_that_has_left_is_one_line(
    reward_server: str, fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = Event()
    monkeypatch.setattr(fake, "score_batch", lambda solutions: left.wait(30) and [[0.5, 0.5]])
    host, _, port = reward_server.removeprefix("http://").partition("/")[0].partition(":")
    body = json.dumps({"query": [QUERY], "prompts": [PROMPT], "labels": [LABEL]}).encode()
    with socket.create_connection((host, int(port))) as trainer:
        trainer.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        trainer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, at once
    left.set()
    said, deadline = "", time.monotonic() + 30
    while not said.endswith("\n") and time.monotonic() < deadline:
        time.sleep(0.05)
        said += capsys.readouterr().err
    assert said.endswith("the trainer has left before it got its rewards\n")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("query", "prompt"),
    [
        (PROMPT + TEXT, PROMPT),
        (QUERY, PROMPT),  # an image is several tokens in the query
        (PROMPT[12:] + TEXT + "<|im_end|><|endoftext|>", PROMPT),  # a long prompt loses its start
        ("Q: Why? A: " + TEXT + "</s>", "Q: Why? A: "),
        ("Q:" + TEXT, "Q:"),
    ],
)
def test_the_response_is_found_in_a_query_of_openrlhf(query: str, prompt: str) -> None:
    assert loaded("openrlhf_reward").response_of(query, prompt) == TEXT


def test_openrlhf_can_load_the_file_instead(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    module = adapter("openrlhf_reward", fake, monkeypatch)
    assert module.reward_func([QUERY], [PROMPT], [LABEL])["rewards"] == [REWARD]


def test_the_program_for_openrlhf_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BISIEVE_SERVER", "BISIEVE_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["openrlhf_reward.py", "--port", "0"])
    with pytest.raises(
        SystemExit, match="error: expected BISIEVE_SERVER or BISIEVE_MODEL in the environment"
    ):
        loaded("openrlhf_reward").main()


@pytest.mark.parametrize("port", [None, 70_000])
def test_the_program_for_openrlhf_says_that_its_port_is_not_free(
    port: int | None, reward_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = port or int(reward_server.rpartition(":")[2].partition("/")[0])
    monkeypatch.setattr(sys, "argv", ["openrlhf_reward.py", "--port", str(taken)])
    with pytest.raises(SystemExit, match=f"error: expected a free --port of .*; found 127.0.0.1:{taken}: "):
        loaded("openrlhf_reward").main()


def test_the_program_for_openrlhf_ends_at_ctrl_c_without_a_traceback(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(server: Any) -> None:
        raise KeyboardInterrupt

    module = adapter("openrlhf_reward", fake, monkeypatch)
    monkeypatch.setattr(sys, "argv", ["openrlhf_reward.py", "--port", "0"])
    monkeypatch.setattr(module.RewardServer, "serve_forever", interrupted)
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 130


# --- TRL 1.16.0: GRPOTrainer._calculate_rewards ---


def conversation(*content: Any) -> list[dict[str, Any]]:
    return [{"role": "system", "content": "Think."}, {"role": "user", "content": list(content)}]


def trl_result(module: ModuleType, prompts: Any, completions: Any, **columns: Any) -> Any:
    logged: dict[str, float] = {}
    found = module.step_reward(
        prompts=prompts, completions=completions, completion_ids=[[1]] * len(prompts), **columns,
        trainer_state=None, log_extra=None, log_metric=logged.__setitem__,
    )  # fmt: skip
    return found, logged


def test_trl_gets_a_number_or_none_of_each_completion(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    module = adapter("trl_reward", fake, monkeypatch)
    text, picture = {"type": "text", "text": "Which bar?"}, Image.new("RGB", (2, 2))
    image = {"type": "image", "image": picture}
    prompts = [conversation(image, image, text), conversation(text, image), conversation(text), "Why?"]
    contents: list[Any] = [LONG, "", [{"type": "text", "text": "beyond"}]]
    completions = [*([{"role": "assistant", "content": content}] for content in contents), TEXT]
    found, logged = trl_result(module, prompts, completions, answer=["middle"] * 4)
    assert found == [REWARD, None, None, REWARD]
    assert logged == {"unscored_steps": 0.5}
    assert fake.asked == [
        ("Which bar?", [picture, picture], LONG.split("\n\n")),
        ("Which bar?", [], ["beyond"]),
        ("Why?", [], TEXT.split("\n\n")),
    ]
    assert module.asked(prompts[1], None) == ("Which bar?<image>", [picture])


@pytest.mark.parametrize("column", ["image", "images"])
def test_images_of_trl_may_be_in_a_column_alone(
    column: str, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = adapter("trl_reward", fake, monkeypatch)
    prompt = [{"role": "user", "content": "Which bar?"}]
    row = "a.png" if column == "image" else ["a.png", "b.png"]
    trl_result(module, [prompt], [[{"role": "assistant", "content": TEXT}]], **{column: [row]})
    assert fake.asked[0][:2] == ("Which bar?", ["a.png"] if column == "image" else row)


# --- ms-swift 4.6.0: get_reward of swift.pipelines.sampling ---


@dataclass
class InferRequest:
    """The fields that ms-swift's class of this name has for messages and images."""

    messages: list[dict[str, Any]]
    images: list[Any] = field(default_factory=list)


@pytest.fixture
def swift_rewards(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for swift.rewards: a class with a call, and the plugins by name."""
    module = ModuleType("swift.rewards")
    module.PRM, module.prms = type("PRM", (), {}), {}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "swift", ModuleType("swift"))
    monkeypatch.setitem(sys.modules, "swift.rewards", module)
    return module


def test_ms_swift_gets_a_number_of_each_sample(
    swift_rewards: ModuleType, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter("ms_swift_prm", fake, monkeypatch)
    plugin = swift_rewards.prms["bisieve"]()  # type: ignore[attr-defined]
    assert isinstance(plugin, swift_rewards.PRM)  # type: ignore[attr-defined]
    assert {"infer_requests", "ground_truths"} <= set(inspect.signature(plugin.__call__).parameters)

    def request(answer: str, content: Any = "<image>Which <image>bar?") -> InferRequest:
        messages = [{"role": "system", "content": "Think."}, {"role": "user", "content": content},
                    {"role": "assistant", "content": answer}]  # fmt: skip
        return InferRequest(messages, ["a.png", "b.png"])

    parts = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Which bar?"}]
    requests: list[Any] = [request(LONG), request(""), request("beyond"), request(TEXT, parts)]
    requests.append(vars(request(TEXT)))
    found = plugin(requests, request_config=None, ground_truths=["middle"] * len(requests))
    assert found == [REWARD, 0.0, 0.0, REWARD, REWARD]
    assert fake.asked[0] == ("<image>Which <image>bar?", ["a.png", "b.png"], LONG.split("\n\n"))
    assert fake.asked[2][0] == "Which bar?"


def test_images_of_ms_swift_may_be_in_the_parts_of_a_message(
    swift_rewards: ModuleType, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = adapter("ms_swift_prm", fake, monkeypatch)
    url = {"type": "image_url", "image_url": {"url": "b.png"}}
    content = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Which "}, url]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": None}]
    expected = "<image>Which <image>", ["a.png", "b.png"], ""
    assert module.solution_of(InferRequest(messages)) == expected


# --- a real model ---


def test_all_four_give_the_reward_of_the_model(
    swift_rewards: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build_internvl(tmp_path / "model")
    scorer = StepScorer(str(tmp_path / "model"))
    picture = tmp_path / "a.png"
    Image.linear_gradient("L").convert("RGB").resize((60, 40)).save(picture)
    steps = scorer.score("Which bar?", [picture], TEXT.split("\n\n"))
    expected = pytest.approx(sum(steps) / 2, abs=1e-5)
    question, images = "Which bar?", [str(picture)]
    verl, openrlhf, trl, _ = (
        adapter(name, scorer, monkeypatch)
        for name in ("verl_reward", "openrlhf_reward", "trl_reward", "ms_swift_prm")
    )
    assert verl_result(verl, TEXT, {"question": question, "images": images})["score"] == expected
    label = {"question": question, "images": images}
    assert openrlhf.reward_func([QUERY], [PROMPT], [label])["rewards"] == [expected]
    with Image.open(picture) as opened:
        part = {"type": "image", "image": opened}
        prompt = conversation(part, {"type": "text", "text": question})
        assert trl_result(trl, [prompt], [[{"role": "assistant", "content": TEXT}]])[0] == [expected]
    messages = [{"role": "user", "content": f"<image>\n{question}"}, {"role": "assistant", "content": TEXT}]
    plugin = swift_rewards.prms["bisieve"]()  # type: ignore[attr-defined]
    assert plugin([InferRequest(messages, images)], ground_truths=[""]) == [expected]
