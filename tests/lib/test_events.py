"""What stderr gets: lines, a line that rewrites itself, or JSON."""

import io
import json
import re
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from support.terminals import Terminal

from bisieve import console, events
from bisieve.cli.main import main
from bisieve.events import events_on_stderr


def told(form: str, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, pause: float = 0) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    with events_on_stderr(form) as emit:
        emit("listed", "2 of 3 shards to scan", shards=3, to_scan=2)
        now += pause
        for done in range(3):
            emit("progress", f"scan: {done} of 3 tasks", stage="scan", tasks_done=done, tasks=3)
        emit("written", files=4)
    return stream.getvalue()


def test_a_file_gets_lines_and_progress_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("text", io.StringIO(), monkeypatch) == "2 of 3 shards to scan\n"
    late = told("text", io.StringIO(), monkeypatch, pause=12)
    assert late == "2 of 3 shards to scan\nscan: 0 of 3 tasks\n"


def test_a_terminal_gets_a_bar_that_goes_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    shown = told("text", Terminal(), monkeypatch)
    assert shown.startswith("2 of 3 shards to scan\n")
    counts = re.findall(r"scan .*?(\d)/3", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
    assert list(dict.fromkeys(counts)) == ["0", "1", "2"]
    assert shown.endswith("\x1b[2K")  # the line is cleared
    monkeypatch.setenv("TERM", "dumb")
    assert told("text", Terminal(), monkeypatch) == "2 of 3 shards to scan\n"


def test_programs_get_an_object_a_line_with_the_numbers_of_the_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [json.loads(line) for line in told("json", Terminal(), monkeypatch, pause=12).splitlines()]
    assert [line["event"] for line in lines] == ["listed", "progress", "written"]
    for line in lines:
        assert datetime.fromisoformat(line["ts"]).utcoffset() is not None
        assert line["seconds"] >= 0
    assert {name: lines[0][name] for name in ("shards", "to_scan")} == {"shards": 3, "to_scan": 2}
    assert lines[2]["files"] == 4


def test_a_quiet_command_tells_its_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    with console.quiet(True):
        assert told("text", io.StringIO(), monkeypatch) == ""
        monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
        with events_on_stderr("text") as emit:
            emit("left_out", "skipped 1 file of an unsupported kind: a.csv")
    assert stream.getvalue() == "skipped 1 file of an unsupported kind: a.csv\n"


def test_nothing_is_told_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    told("text", stream, monkeypatch)
    before = stream.getvalue()
    events._emit("listed", "again")
    assert stream.getvalue() == before


def test_an_error_is_an_event_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["rank", "--index", str(tmp_path / "none"), "--output", str(tmp_path / "out")]
    assert main([*ask, "--log-format", "json"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    error = json.loads(line)
    assert (error["event"], error["exit_code"], error["found"]) == ("error", 1, "none")
    assert error["hint"] == "make one with bisieve score"
    monkeypatch.setenv("BISIEVE_LOG", "json")
    assert main(["report", "--index", str(tmp_path / "none")]) == 1
    assert json.loads(capsys.readouterr().err)["event"] == "error"
    assert main([*ask, "--log-format", "text"]) == 1
    assert capsys.readouterr().err.startswith("bisieve: error: expected an index")
