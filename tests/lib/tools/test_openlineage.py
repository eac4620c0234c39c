"""OpenLineage events: sent where its client is configured, and never the reason why a command fails."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from bisieve.cli.main import main
from bisieve.errors import CorpusError, PreemptedError
from bisieve.tools.openlineage import lineage_events


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that gets the events."""
    file = tmp_path / "events.jsonl"
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(file))
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")
    return file


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What a server that the environment names has got."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    for name in ("TYPE", "LOG_FILE_PATH", "APPEND"):
        monkeypatch.delenv(f"OPENLINEAGE__TRANSPORT__{name}", raising=False)
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "http")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__URL", f"http://127.0.0.1:{http.server_port}")
    yield got
    http.shutdown()
    http.server_close()


def told(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def end(error: BaseException) -> None:
    with lineage_events("score", ["s3://corpus/in"], ["s3://corpus/index"]):
        raise error


def test_a_run_that_ends_well_starts_and_completes_with_its_datasets(events: Path) -> None:
    with lineage_events("score", ["s3://corpus/in/a.jsonl"], ["/data/index"]) as datasets:
        datasets.versions["/data/index"] = "f1"
    start, complete = told(events)
    assert [start["eventType"], complete["eventType"]] == ["START", "COMPLETE"]
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert complete["job"] == {"facets": {}, "name": "score", "namespace": "bisieve"}
    (shards,), (index,) = complete["inputs"], complete["outputs"]
    assert (shards["namespace"], shards["name"]) == ("s3://corpus", "in/a.jsonl")
    assert (index["namespace"], index["name"]) == ("file", "/data/index")
    assert index["facets"]["version"]["datasetVersion"] == "f1"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (CorpusError("shards", "none", "check --input"), "FAIL"),
        (RuntimeError("what a bug says may hold anything"), "FAIL"),
        (KeyboardInterrupt(), "ABORT"),
        (PreemptedError("an end", "SIGTERM", "run it again"), "ABORT"),
    ],
)
def test_a_run_that_fails_says_so_and_its_error_is_still_raised(
    error: BaseException, state: str, events: Path
) -> None:
    with pytest.raises(type(error)):
        end(error)
    last = told(events)[-1]
    assert last["eventType"] == state
    message = last["run"]["facets"].get("errorMessage", {}).get("message")
    expected = {CorpusError: str(error), RuntimeError: "RuntimeError"}
    assert message == expected.get(type(error))


def test_events_go_to_a_server_too(server: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "nightly")
    with lineage_events("train", ["OpenGVLab/InternVL3-1B-hf"], ["s3://models/a"]):
        pass
    assert [event["eventType"] for event in server] == ["START", "COMPLETE"]
    assert server[0]["job"]["namespace"] == "nightly"
    assert server[0]["inputs"][0]["namespace"] == "hf"


def test_no_secret_of_a_url_is_sent(events: Path) -> None:
    url = "https://somebody:pl4nted@host/model?sig=pl4nted"
    with pytest.raises(CorpusError), lineage_events("evaluate", [url], [url]):
        raise CorpusError("a model", f"none at {url}", "check --model")
    assert [event["eventType"] for event in told(events)] == ["START", "FAIL"]
    assert told(events)[0]["inputs"][0]["namespace"] == "https://***@host"
    assert "pl4nted" not in events.read_text()


COMMANDS = {
    "score": ["--input", "URL", "--index", "index"],
    "train": ["--index", "URL", "--image-root", "images", "--backbone", "b", "--output", "model"],
    "evaluate": ["--model", "model", "--benchmark", "URL", "--image-root", "images", "--output", "metrics"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_told_a_url_with_a_password_begins_no_run(
    command: str, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.replace("URL", "s3://somebody:pl4nted@bucket/x") for word in COMMANDS[command]]
    assert main([command, *words]) == 2
    assert not events.exists()


def test_score_names_relative_paths_as_files(
    events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["score", "--input", "nothing/*.jsonl", "--index", "index"]) == 1
    start, fail = told(events)
    assert fail["eventType"] == "FAIL"
    assert [(one["namespace"], one["name"]) for one in [*start["inputs"], *start["outputs"]]] == [
        ("file", str(tmp_path / "nothing/*.jsonl")), ("file", str(tmp_path / "index")),
    ]  # fmt: skip


def test_a_server_that_does_not_answer_is_one_warning(
    server: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__URL", "http://127.0.0.1:1")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__RETRY", '{"total": 0}')
    with lineage_events("train", [], []):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bisieve: warning: no OpenLineage event was sent:")


def test_nothing_is_sent_where_nobody_asks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with lineage_events("score", ["in"], ["out"]):
        pass
    assert capsys.readouterr() == ("", "")
