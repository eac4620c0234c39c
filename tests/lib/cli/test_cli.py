import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.terminals import Terminal

from bisieve._version import __version__
from bisieve.cli.main import COMMANDS, INTERRUPTED, TERMINATED, guarded, main, run_command
from bisieve.cli.parser import Parser, add_command
from bisieve.errors import BisieveError, PreemptedError, UsageError

SCORE = ["score", "--input", "in", "--index", "out"]


def test_help_lists_every_command_by_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    listed = re.findall(r"^  ([a-z-]+)  +\S", shown, re.MULTILINE)
    assert sorted(listed) == sorted(point.name for point in entry_points(group=COMMANDS))
    groups = ["select rollouts:", "train a model:", "check the installation:", "exit codes:"]
    assert [line for line in shown.splitlines() if line.endswith(":")] == groups
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("score", "--input URL [URL ...] --index URL [options]"),
        ("doctor", "[options]"),
        ("train", "--index URL --image-root URL --backbone MODEL --output URL [options]"),
        ("diff", "--index URL [options]"),
    ],
)
def test_the_usage_of_a_command_shows_what_must_be_given(
    command: str, usage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert capsys.readouterr().out.splitlines()[0] == f"usage: bisieve {command} {usage}"


def test_the_exit_codes_of_the_help_are_those_of_the_documentation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out.partition("exit codes:")[2]
    in_help = [int(code) for code in re.findall(r"^  (\d+) ", shown, re.MULTILINE)]
    text = (Path(__file__).parents[3] / "docs/reference/exit-codes.md").read_text(encoding="utf-8")
    table = text.partition("## Exit codes")[2].partition("\n## ")[0]
    assert in_help == [int(code) for code in re.findall(r"^- (\d+): ", table, re.MULTILINE)]
    errors = {BisieveError.exit_code, UsageError.exit_code, PreemptedError.exit_code}
    assert set(in_help) == {0, INTERRUPTED, TERMINATED, *errors}


def test_an_index_beside_other_files_is_put_there_with_a_warning(
    write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shard = write_jsonl("corpus/a.jsonl", [rollout()])
    (tmp_path / "index").mkdir()
    for name in ("notes.txt", "plots", ".hidden"):
        (tmp_path / "index" / name).touch()
    ask = ["score", "--input", str(shard), "--index", str(tmp_path / "index")]
    assert main(ask) == 0
    expected = f"warning: file://{tmp_path}/index also holds notes.txt and 1 other, not of an index; "
    assert capsys.readouterr().err.count(expected) == 1
    assert main([*ask, "--alpha", "0.2"]) == 0
    assert "warning" not in capsys.readouterr().err
    (tmp_path / "ranked").mkdir()
    (tmp_path / "ranked/notes.txt").touch()
    ask = ["rank", "--index", str(tmp_path / "index"), "--output", str(tmp_path / "ranked"), "--alpha", "0.1"]
    assert main(ask) == 0
    assert "ranked also holds notes.txt, not of an index; " in capsys.readouterr().err


@pytest.mark.parametrize("name", [point.name for point in entry_points(group=COMMANDS)])
def test_the_help_of_a_command_has_an_example_that_parses_and_fits(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 100
    example = shown.split("example:\n  ")[1].strip().replace("\\\n", " ")
    (command,) = re.findall(r"bisieve ([^')]+)", example)
    module = next(point for point in entry_points(group=COMMANDS) if point.name == name).load()
    parser = Parser()
    module.configure(parser)
    parser.parse_args(shlex.split(command)[1:])


def test_without_a_command_the_pipeline_and_the_first_step_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert "──score──▶ index" in shown
    assert "bisieve score --input ROLLOUTS.jsonl --index index" in shown


def test_python_dash_m_bisieve_is_the_command() -> None:
    command = [sys.executable, "-m", "bisieve", "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == f"bisieve {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        ([*SCORE, "--alpha", "-1"], "found -1.0"),
        ([*SCORE, "--alpha", "nan"], "found nan"),
        ([*SCORE, "--spark-conf", "spark.x"], "found spark.x"),
        ([*SCORE, "--source-field", "image"], "found image"),
        ([*SCORE, "--source-field", "set", "--source-from", "folder"], "found both"),
        ([*SCORE, "--field", "question"], "found question"),
        ([*SCORE, "--field", "question="], "found question="),
        ([*SCORE, "--field", "answer=text"], "found answer"),
        ([*SCORE, "--field", "question=text", "--field", "step=text"], "found text as question and step"),
        ([*SCORE, "--field", "step=a", "--field", "step=b"], "found step twice"),
        ([*SCORE, "--image-prefix", "old"], "found old"),
        (["score", "--input", "gs://bucket/x", "--index", "out"], "pip install 'bisieve[gcs]'"),
        (["score", "--input", "/no/such/folder", "--index", "out"], "file:///no/such/folder"),
        (["export", "--index", "/no/such/index", "--fraction", "0.5", "--output", "out"], "bisieve score"),
    ],
)
def test_a_mistake_is_one_line_and_a_code(
    argv: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(argv)
    captured = capsys.readouterr()
    assert code != 0
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("bisieve: error: expected ")
    assert found in line


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["sore"], "a command of bisieve; found sore; did you mean score?"),
        (["score", "--inptu", "x"], "an option of bisieve score; found --inptu; did you mean --input?"),
        ([*SCORE, "--strat=all"], "an option of bisieve score; found --strat; did you mean --strategy?"),
        ([*SCORE, "--strategy", "bsi"], "for --strategy; found bsi; did you mean bis?"),
        (["report", "--index", "x", "--alpha", "autoo"], "a number or auto for --alpha; found autoo"),
        (["export", "--loud"], "an option of bisieve export; found --loud; see bisieve export --help"),
        (["versions", "x"], "options of bisieve versions; found 'x'; did you mean --index x?"),
        (["report", "x"], "did you mean --index x or"),
        (["score", "--input", "x", "--index", "y", "--field", "qestion=q"], "did you mean question?"),
        (["score", "--alpha", "x"], "a number for --alpha; found x; see bisieve score --help"),
        (["score"], "--input, --index; found none; see bisieve score --help"),
        ([*SCORE, "--alpha"], "expected a value for --alpha; found none; see bisieve score --help"),
        (["score", "--input"], "expected a value for --input; found none; see bisieve score --help"),
        (["report", "--index", "a", "--run", "b"], "expected --index or --run; found both; leave out one"),
        (["score", "--version"], "found --version; bisieve --version prints the version"),
        (["diff", "a", "b"], "options of bisieve diff; found 'a'; did you mean --index a?"),
        (["diff", "--index", "a", "--versoin", "b"], "found --versoin; did you mean --version?"),
        (["export", "index"], "options of bisieve export; found 'index'; did you mean --index index?"),
        (["lineage", "m"], "found 'm'; see bisieve lineage --help"),
        (
            ["lineage"],
            "one of --index, --model, --checkpoint, --metrics, --picks, --pointer; found none; see",
        ),
        (["doctor", "now"], "options of bisieve doctor; found 'now'; see bisieve doctor --help"),
        (["report", "--index", "x", "more"], "options of bisieve report; found 'more'; see bisieve"),
        (["train", "index"], "options of bisieve train; found 'index'; did you mean --index index?"),
        (["train", "--fractoin", "1"], "an option of bisieve train; found --fractoin; did you mean"),
        (["score", "--quiet=yes"], "expected --quiet/--no-quiet without a value; found yes; leave out"),
        (["evaluate", "--threshold", "tset"], "a number in [0, 1], calibration or test for --threshold; fou"),
        (["train", "--zero-stage", "7"], "a stage, one of auto, 1, 2 and 3, for --zero-stage; found 7"),
        (["train", "--selection-seed", "x"], "an integer from 0 on, or index for --selection-seed; found x"),
        (["train", "--workers", "x"], "a number such as 4, or a range such as 2-8 for --workers; found x"),
        (["submit"], "best-of, sweep; found none; for example bisieve submit --address http"),
        (["train"], "--index, --image-root, --backbone, --output; found nothing; give them"),
        (["evaluate", "--model", "m", "--output", "o"], "expected --image-root, --benchmark; found nothing"),
        (["submit", "--adress", "http://x", "train"], "found --adress; did you mean --address?"),
        (["submit", "trian"], "best-of, sweep for program; found trian; did you mean train?"),
        (["submit", "train", "--fractoin", "1"], "an option of bisieve submit train; found --fractoin"),
    ],
)
def test_a_typo_is_answered_with_what_was_probably_meant(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("bisieve: error: expected ")
    assert said in line


def test_an_error_is_wrapped_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    with redirect_stderr(Terminal()) as stream:
        assert main(["train"]) == 2
    lines = stream.getvalue().splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize("name", [point.name for point in entry_points(group=COMMANDS)])
def test_every_command_can_be_quiet(name: str) -> None:
    parser = Parser()
    add_command(parser, next(point for point in entry_points(group=COMMANDS) if point.name == name).load())
    help_text = " ".join(parser.format_help().split())
    assert "--[no-]quiet print results, warnings and errors, but no progress" in help_text


def test_a_quiet_export_prints_its_result_alone(
    indexed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "--index", str(indexed), "--fraction", "40%", "--alpha", "0.2"]
    assert main([*words, "--output", str(tmp_path / "a")]) == 0
    told = capsys.readouterr()
    assert main([*words, "--output", str(tmp_path / "b"), "--quiet"]) == 0
    assert capsys.readouterr() == (told.out.replace(str(tmp_path / "a"), str(tmp_path / "b")), "")


@pytest.mark.parametrize("fraction", ["0", "1.5", "-0.1", "nan", "0%", "101%", "a tenth"])
def test_a_fraction_outside_its_range_is_refused(
    fraction: str, indexed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["export", "--index", str(indexed), "--fraction", fraction, "--output", str(tmp_path / "o")])
        == 2
    )
    assert "expected a fraction in (0, 1]" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_an_export_says_what_was_asked_for_and_what_was_delivered(
    indexed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["export", "--index", str(indexed), "--fraction", "0.4", "--output", str(tmp_path / "o")]) == 0
    )
    said = capsys.readouterr().out
    assert "1 of 3 rollouts (33.33%; asked for 40% of each source)" in said
    assert "note: the file" not in said
    assert len((tmp_path / "o").read_text().splitlines()) == 1
    assert (
        main(["export", "--index", str(indexed), "--fraction", "40%", "--output", str(tmp_path / "o")]) == 0
    )
    assert "note: the file that was there is replaced" in capsys.readouterr().out


@pytest.mark.spark
@pytest.mark.parametrize("seconds", [1, 3.5], ids=["Spark starts", "Spark is at work"])
def test_ctrl_c_says_so_and_publishes_nothing(
    seconds: float, write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    shard = write_jsonl("a.jsonl", [rollout()] * 200_000)
    command = [
        Path(sys.executable).with_name("bisieve"),
        "score",
        "--engine",
        "spark",
        "--input",
        shard,
        "--index",
        tmp_path / "index",
    ]
    running = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert running.stderr is not None
    assert running.stderr.readline() == "1 of 1 shards to scan\n"
    time.sleep(seconds)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=240)
    assert running.returncode == 130
    assert said.splitlines()[-1] == "bisieve: interrupted; nothing half-written was made visible"
    assert "Traceback" not in said
    assert not (tmp_path / "index/manifest.json").exists()


@pytest.mark.parametrize("call", [lambda: main(["score"]), lambda: run_command("bisieve.cli.score", [])])
def test_ctrl_c_while_a_command_is_imported_is_one_line(
    call: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    points = [SimpleNamespace(name="score", load=interrupted)]  # whose class setuptools may replace
    monkeypatch.setattr("bisieve.cli.main.entry_points", lambda group: points)
    monkeypatch.setattr("bisieve.cli.main.import_module", interrupted)
    assert call() == 130
    assert capsys.readouterr().err == "bisieve: interrupted; nothing half-written was made visible\n"


@pytest.fixture
def deleted(tmp_path: Path) -> Iterator[None]:
    """Work in a directory that is deleted meanwhile."""
    folder, home = tmp_path / "deleted", Path.cwd()
    folder.mkdir()
    os.chdir(folder)
    folder.rmdir()
    yield
    os.chdir(home)


@pytest.mark.usefixtures("deleted")
def test_a_working_directory_that_is_gone_is_named_by_every_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    points = entry_points(group=COMMANDS)
    assert len(points) > 10
    for point in points:
        assert guarded(point.load().run, argparse.Namespace()) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("bisieve: error: expected an existing working directory; found a deleted one")


@pytest.mark.usefixtures("deleted")
@pytest.mark.parametrize("argv", [SCORE, ["train", "--config", "x.toml"], ["doctor"]])
def test_a_process_that_starts_where_nothing_is_any_more_ends_with_one_line(argv: list[str]) -> None:
    command = [sys.executable, "-c", "from bisieve.cli.main import main; raise SystemExit(main())", *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "found a deleted one; cd to another directory" in line
