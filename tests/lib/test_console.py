"""How bisieve prints: rich on a terminal, plain lines elsewhere."""

import re
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

import pytest
from support.terminals import Terminal, on_terminal

from bisieve import console
from bisieve._text import Graded, Quoted, Report, Table
from bisieve.console import Bar, Phase, progress, quiet, show, show_on_stderr, show_row, status

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(3[0-9]|4[0-9]|9[0-7])")
REPORT = Report(
    Table(("source", "rollouts"), [("geometry-with-a-long-name", "1,200"), ("charts", "7")]),
    "PASSED: " + "every word of this line fits into the width and so it is wrapped " * 3,
    "see s3://bucket/" + "x" * 120,
)


@pytest.fixture(autouse=True)
def wide_colourful_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "200")


def test_a_file_gets_aligned_lines_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    show(REPORT)
    assert capsys.readouterr().out == f"{REPORT}\n"
    assert str(REPORT).splitlines()[:3] == [
        "source                     rollouts",
        "geometry-with-a-long-name     1,200",
        "charts                            7",
    ]
    show_row(("ok", "python", "3.12"), (8, 10))
    assert capsys.readouterr().out == "ok       python     3.12\n"


def test_a_file_gets_sentences_of_ours_broken_between_clauses_and_texts_of_a_corpus_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = "one clause of many words that are of no further interest; " * 2 + "the end"
    show(Report(text, Quoted(text), Graded("0/1", 0.0, text)))
    ours, rest, *quoted = capsys.readouterr().out.splitlines()
    assert (ours, rest) == (text[:57], f"    {text[58:]}")
    assert quoted == [text, f"0/1  {text}"]
    show_on_stderr(text)
    assert capsys.readouterr().err == f"{text}\n"


def test_a_terminal_gets_at_most_100_columns_and_whole_urls() -> None:
    shown = on_terminal(lambda: (show(REPORT), show_row(("failed", "disk", "full " * 40), (8, 10))))
    lines = ESCAPE.sub("", shown).splitlines()
    assert lines[0] == "source                     rollouts"
    assert set(lines[1]) == {"─"}
    assert [line for line in lines if len(line) > 100] == [" " * 4 + "s3://bucket/" + "x" * 120]
    assert lines[-1].startswith(" " * 20 + "full")
    assert COLOUR.search(shown)


def test_a_terminal_gets_the_empty_lines_of_a_report() -> None:
    shown = on_terminal(lambda: show(Report("above", "", "below")))
    assert ESCAPE.sub("", shown).split("\n")[:3] == ["above", "", "below"]


def test_names_are_wrapped_in_a_narrow_terminal_but_numbers_are_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    shown = ESCAPE.sub("", on_terminal(lambda: show(Report(REPORT.blocks[0]))))
    lines = [line.rstrip() for line in shown.splitlines()]
    assert lines[2:] == ["geometry-wi    1,200", "th-a-long-n", "ame", "charts             7"]


def test_without_colour_a_terminal_gets_no_escape_codes_but_tables_and_lines_of_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(console, "PROGRESS_EVERY", 0.0)

    def act() -> None:
        show(REPORT)
        show_row(("failed", "disk", "full"), (8, 10))
        with progress("scoring", 10, lines=True) as shown:
            shown(5)

    shown = on_terminal(act)
    lines = shown.splitlines()
    assert "\x1b" not in shown
    assert set(lines[1]) == {"─"}
    assert lines[-2:] == ["failed   disk       full".ljust(len(lines[-2])), "scoring: 5 of 10"]


def test_a_line_on_stderr_is_wrapped_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = "bisieve: error: expected " + "all of these words " * 12 + "at s3://bucket/" + "x" * 120
    show_on_stderr(error)
    assert capsys.readouterr().err == f"{error}\n"
    with redirect_stderr(Terminal()) as stream:
        show_on_stderr(error)
    first, *others = stream.getvalue().splitlines()
    assert [line for line in (first, *others) if len(line) > 100] == [" " * 4 + "s3://bucket/" + "x" * 120]
    assert all(line.startswith("    ") for line in others)
    assert " ".join(line.strip() for line in (first, *others)) == error


def test_a_quiet_command_shows_its_results_but_not_what_is_going_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PROGRESS_EVERY", 0.0)

    def act() -> None:
        status("starting")
        with progress("scoring", 10, lines=True) as shown:
            shown(5)
        show("result")

    with quiet(True):
        act()
        assert on_terminal(act) == "result\n"
    assert capsys.readouterr().out == "result\n"
    with quiet(False):
        act()
    assert capsys.readouterr().out == "starting\nscoring: 5 of 10\nresult\n"


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")

    def act() -> None:
        show(REPORT)
        with progress("training", 10) as shown:
            shown(5)

    assert on_terminal(act) == f"{REPORT}\n"


def test_a_bar_counts_below_the_lines_and_disappears() -> None:
    with redirect_stdout(Terminal()) as stream:
        with progress("training", 400) as shown:
            shown(0)
            assert stream.getvalue() == ""
            shown(100)
            print("step 100/400")
            shown(200)
        assert sys.stdout is stream
    before, after = stream.getvalue().split("step 100/400")
    assert re.search(r"training .*100/400", ESCAPE.sub("", before))
    assert re.search(r"training .*200/400 \d:\d\d:\d\d", ESCAPE.sub("", after))
    assert stream.getvalue().endswith("\x1b[2K")  # the line is cleared


def test_a_file_gets_a_line_of_progress_now_and_then_if_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress("scoring", 4000, lines=True) as shown:
        shown(1000)  # too early
    monkeypatch.setattr(console, "PROGRESS_EVERY", 0.0)
    with progress("scoring", 4000, lines=True) as shown, progress("training", 9) as silent:
        for done in (0, 1000, 2000):
            shown(done)
            silent(done)
    assert capsys.readouterr().out == "scoring: 1,000 of 4,000\nscoring: 2,000 of 4,000\n"


def test_a_bar_on_stdout_leaves_stderr_to_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    with redirect_stdout(Terminal()) as stream, progress("training", 4) as shown:
        shown(1)
        print("store: try 2", file=sys.stderr)
        shown(2)
    assert capsys.readouterr().err == "store: try 2\n"
    assert "try 2" not in stream.getvalue()


def test_a_bar_keeps_its_width() -> None:
    stream = Terminal()
    bar = Bar(stream)
    bar.show("scan", 3, 10, "12,345 rollouts (1,234/s), " * 10)
    bar.close()
    shown = [line for line in ESCAPE.sub("", stream.getvalue()).replace("\r", "\n").splitlines() if line]
    assert max(map(len, shown)) <= 100


def test_the_commands_do_not_import_rich_for_a_file() -> None:
    code = "from bisieve.console import show; import bisieve.cli.score; show('text')"
    code += "; import sys; print(*{name.split('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"rich", "argcomplete"} & set(ran.stdout.split())


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
        assert console._current
        console._current.look(console._current.begun + 12)
        console.status("ready")
        assert console._current is None

    assert on_terminal(act).splitlines() == ["starting Ray", "still starting Ray (12 s)", "ready"]


def test_a_file_and_a_quiet_command_are_told_nothing_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console.phase("starting Ray")
    assert console._current is None
    assert capsys.readouterr().out == "starting Ray\n"
    with console.quiet(True):
        assert on_terminal(lambda: console.phase("starting Ray")) == ""
    assert console._current is None


def test_the_watcher_prints_by_itself() -> None:
    shown: list[str] = []
    console._begin_phase("waiting", shown.append)
    assert console._current
    console._current.begun -= 11
    deadline = time.monotonic() + 30
    while not shown and time.monotonic() < deadline:
        time.sleep(0.05)
    console._end_phase()
    assert shown[0].startswith("still waiting (1")
