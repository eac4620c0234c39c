"""Standard streams that are closed, full or read by nobody any more: at most one line, and no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

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
