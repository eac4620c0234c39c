"""Lines that say that a long phase goes on."""

import time

import pytest
from support.terminals import on_terminal

from bisieve import _phases as phases
from bisieve import console
from bisieve._phases import Phase


def test_a_phase_is_named_every_ten_seconds_for_a_minute_and_then_every_minute() -> None:
    shown: list[str] = []
    phase = Phase("loading the model", shown.append, begun=100.0)
    for second in range(100, 100 + 200):
        phase.look(float(second))
    assert shown == [f"still loading the model ({after} s)" for after in (10, 20, 30, 40, 50, 60, 120, 180)]


def test_a_terminal_is_told_that_a_phase_goes_on_until_another_line_is_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")

    def act() -> None:
        console.phase("starting Ray")
        assert phases._current
        phases._current.look(phases._current.begun + 12)
        console.status("ready")
        assert phases._current is None

    assert on_terminal(act).splitlines() == ["starting Ray", "still starting Ray (12 s)", "ready"]


def test_a_file_and_a_quiet_command_are_told_nothing_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console.phase("starting Ray")
    assert phases._current is None
    assert capsys.readouterr().out == "starting Ray\n"
    with console.quiet(True):
        assert on_terminal(lambda: console.phase("starting Ray")) == ""
    assert phases._current is None


def test_the_watcher_prints_by_itself() -> None:
    shown: list[str] = []
    phases.begin("waiting", shown.append)
    assert phases._current
    phases._current.begun -= 11
    deadline = time.monotonic() + 30
    while not shown and time.monotonic() < deadline:
        time.sleep(0.05)
    phases.end()
    assert shown[0].startswith("still waiting (1")
