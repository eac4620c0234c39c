"""The server answers only requests with its token, to its own name, and serves no file by its name."""

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.explored import exploring
from support.reported import ATTACK, make_reported

from bisieve.cli.main import main
from bisieve.explore.server import Guard, application
from bisieve.explore.session import Session, Start
from bisieve.index.reader import open_index

Ask = Callable[..., tuple[int, dict[str, str], bytes]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, score: Callable[..., Any]) -> tuple[str, str]:
    return make_reported(tmp_path_factory.mktemp("corpus"), score)


@pytest.fixture(scope="module")
def page(made: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("explore") / "log"
    with exploring(made[0], "--image-root", made[1], log=log) as url:
        yield url


@pytest.fixture
def ask(page: str) -> Ask:
    """Sends a request; its path is below the token unless it begins with a slash."""
    parts = urlsplit(page)

    def send(
        path: str, method: str = "GET", body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        text = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path if path.startswith("/") else f"{parts.path}{path}", text, headers)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()

    return send


def test_the_server_is_reached_on_this_machine_only_and_its_url_has_a_token(page: str) -> None:
    parts = urlsplit(page)
    assert parts.hostname == "127.0.0.1"
    assert len(parts.path.strip("/")) == 32


@pytest.mark.parametrize("path", ["/", "/about", "/x/about", "/x/", "/rollouts", "//about", "/../about"])
def test_nothing_is_answered_without_the_token(ask: Ask, path: str) -> None:
    status, headers, body = ask(path)
    assert (status, headers["content-type"]) == (403, "text/plain; charset=utf-8")
    assert b"adding" not in body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "localhost:1", ""])
def test_another_host_is_refused_though_the_token_is_right(ask: Ask, host: str) -> None:
    assert ask("about", Host=host)[0] in (400, 403)


def test_a_request_for_the_whole_server_is_refused(page: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(page).netloc, timeout=30)
    connection.request("OPTIONS", "*")
    assert connection.getresponse().status == 403


def test_on_the_usual_port_of_http_a_browser_names_none(made: tuple[str, str], tmp_path: Path) -> None:
    session = Session(Start(open_index(made[0]), made[0], 0.25, {}), tmp_path)
    guard = application(session, "token", 80)
    assert isinstance(guard, Guard)
    assert guard.hosts == {"127.0.0.1", "localhost"}


def test_localhost_is_a_name_of_this_server(ask: Ask, page: str) -> None:
    assert ask("about", Host=f"localhost:{urlsplit(page).port}")[0] == 200


def test_another_site_is_refused(ask: Ask, page: str) -> None:
    asked = {"marked": True, "ids": ["x"]}
    assert ask("mark", "POST", asked, Origin="http://evil.example")[0] == 403
    assert ask("mark", "POST", asked, Origin="null")[0] == 403
    assert ask("mark", "POST", asked, Origin=page.removesuffix(urlsplit(page).path))[0] == 200
    assert ask("mark", "POST", {**asked, "marked": False})[0] == 200


def test_answers_may_run_and_load_nothing_of_others(ask: Ask) -> None:
    for path in ("", "explore.js", "about", "/nothing"):
        _, headers, _ = ask(path)
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "0.png", "images/0.png", "explore.html/../../x",
        "image?name=/etc/passwd", "manifest.json",
    ],
)  # fmt: skip
def test_no_path_is_that_of_a_file(ask: Ask, path: str) -> None:
    status, _, body = ask(path)
    assert status in (403, 404)
    assert b"root:" not in body
    assert len(body) < 200


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("rollouts?by=nothing", None, "expected one of source, rollout_id"),
        ("rollouts?first=x", None, "expected an integer as first; found x"),
        (f"rollouts?first={10**30}", None, f"expected an integer as first; found {10**30}"),
        (f"rollout?source=adding&number=0&rank=-{10**30}", None, "expected an integer as rank"),
        ("rollouts?sourze=x", None, "did you mean source?"),
        ("rollout?source=adding&rank=999&number=0", None, "found none with rank 999"),
        ("select", {"fraction": "200%", "asked": {}}, "expected a fraction in (0, 1]"),
        ("select", {"fraction": 0.1, "asked": {"alpha": "x"}}, "alpha"),
        ("select", {"fraction": 0.1, "asked": {"strategy": 3}}, "strategy"),
        ("select", {"fraction": 0.1, "asked": {"strategy": "bi"}}, "found bi; did you mean bis?"),
        ("select", {"fraction": 0.1, "asked": {"ties": "x"}}, "as ties"),
        ("select", {"x": 1}, "expected a request of this page"),
        ("select", b"{", "expected a request of this page"),
        ("mark", b'{"marked": true, "ids": ["\xff"]}', "expected a request of this page"),
        (
            "mark",
            b'{"marked": true, "filters": {"x": ' + b"[" * 10**5 + b"]" * 10**5 + b"}}",
            "expected a request of this page",
        ),
        ("mark", {"marked": True, "ids": [3]}, "expected a request of this page"),
    ],
)
def test_a_wrong_request_gets_one_line(ask: Ask, path: str, body: Any, expected: str) -> None:
    status, _, answer = ask(path, "GET" if body is None else "POST", body)
    text = json.loads(answer)["error"]
    assert status == 400
    assert expected in text
    assert "\n" not in text


def test_ids_are_downloaded_as_a_file(ask: Ask) -> None:
    status, headers, body = ask("ids.txt?source=adding&rank_max=2")
    assert (status, headers["content-disposition"]) == (200, 'attachment; filename="ids.txt"')
    assert len(body.splitlines()) == 2
    assert ask("exclude.txt")[2] == b""


def test_text_of_the_corpus_is_data(ask: Ask) -> None:
    _, headers, body = ask("rollout?source=adding&rank=1&number=0")
    assert headers["content-type"] == "application/json"
    assert ATTACK in json.loads(body)["question"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--index", "none"], "expected an index"),
        (["--index", "{index}", "--port", "99999"], "expected a free --port"),
        (["--index", "{index}", "--fraction", "0"], "expected a fraction in (0, 1]"),
        (["--index", "{index}", "--alpha", "-1"], "expected an --alpha from 0 on"),
        (["--index", "{index}", "--exclude", "{index}/more.txt"], "expected --exclude outside the index"),
        (["--index", "{index}", "--exclude", "{other}"], "expected text with one rollout_id a line in "),
    ],
    ids=" ".join,
)
def test_a_wrong_start_gets_one_line(
    made: tuple[str, str], words: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = tmp_path / "best.jsonl"  # which marks would overwrite
    other.write_text('{"image": "a.png"}\n')
    assert main(["explore", *(word.format(index=made[0], other=other) for word in words)]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"bisieve: error: {expected}")
    assert other.read_text() == '{"image": "a.png"}\n'


def test_a_port_that_is_taken_gets_one_line(
    made: tuple[str, str], page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port = str(urlsplit(page).port)
    assert main(["explore", "--index", made[0], "--port", port]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"bisieve: error: expected a free --port; found {port}: ")
