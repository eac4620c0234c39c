"""The process of a command: its standard streams and its garbage collector."""

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bisieve.cli.main import main
from bisieve.cli.process import collect_seldom

BISIEVE = f"{sys.executable} -m bisieve"
FULL = (
    "bisieve: error: expected room for stdout and for temporary files; "
    "found No space left on device; free space, or write elsewhere\n"
)


def in_bash(script: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "buffered"), [("--version", ""), ("--version", "1"), ("versions --index {index}", "1")]
)
def test_stdout_on_a_full_disk_is_an_error(words: str, buffered: str, indexed: Path) -> None:
    command = f"PYTHONUNBUFFERED={buffered} {BISIEVE} {words.format(index=indexed)}"
    assert in_bash(f"{command} >/dev/full") == (1, "", FULL)


@pytest.mark.parametrize(
    "words",
    ["--version", "score --help", "score --input a --index b --print-config", "report --index {index}"],
)
def test_a_reader_that_closes_stdout_gets_no_words_for_it(words: str, indexed: Path) -> None:
    command = f"PYTHONUNBUFFERED= {BISIEVE} {words.format(index=indexed)}"
    assert in_bash(f"{command} | true") == (1, "", "")


def test_a_command_without_standard_streams_does_its_work(indexed: Path, tmp_path: Path) -> None:
    words = f"export --index {indexed} --fraction 1 --output {tmp_path}/best.jsonl"
    assert in_bash(f"{BISIEVE} {words} <&- >&- 2>&-") == (0, "", "")
    lines = (tmp_path / "best.jsonl").read_text().splitlines()
    assert [line[:9] for line in lines] == ['{"image":'] * 3
    assert in_bash(f"{BISIEVE} versions --index {tmp_path}/none 2>&-") == (1, "", "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_stdout_that_lacks_characters_gets_escapes(
    encoding: str, score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    question = "caf\u00e9 \u2192 \U0001f600?"
    score(write_jsonl("a.jsonl", [rollout(rollout_id="one", question=question)]), tmp_path / "index")
    command = f"PYTHONIOENCODING={encoding} {BISIEVE} show one --index {tmp_path}/index"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert question.encode(encoding, "backslashreplace") in done.stdout
    done = subprocess.run(["bash", "-c", f"{command} --json"], capture_output=True, check=False)
    assert json.loads(done.stdout.decode(encoding))["question"] == question


SHOW = """
import gc, sys
from bisieve.cli.main import main
sys.argv[1:] = ["--version"]
main()
print(gc.get_threshold()[0] > 10_000, gc.isenabled())
"""


def test_a_command_in_a_process_of_its_own_collects_seldom() -> None:
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path = {sys.path}\n{SHOW}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "True True"


def test_a_program_that_calls_a_command_keeps_its_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    before = gc.get_threshold()
    monkeypatch.setattr("bisieve.cli.main.collect_seldom", lambda: pytest.fail("it was set"))
    assert main(["--version"]) == 0
    assert gc.get_threshold() == before


def test_garbage_is_still_collected_and_nothing_is_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[object] = []
    before = gc.get_threshold()
    monkeypatch.setattr("atexit.register", at_exit.append)
    try:
        collect_seldom()
        assert gc.isenabled()
        assert at_exit == [gc.freeze]
    finally:
        gc.set_threshold(*before)
