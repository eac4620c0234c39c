"""A shell asks for completions as argcomplete's scripts do: with the line in the environment."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from bisieve.cli.main import COMMANDS

ROOT = Path(__file__).parents[3]


def completions(line: str, tmp_path: Path) -> list[str]:
    environment = {
        **os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "found"),
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-m", "bisieve"], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    return [word.strip() for word in (tmp_path / "found").read_text().split("\n")]


def test_all_commands_are_offered(tmp_path: Path) -> None:
    found = completions("bisieve ", tmp_path)
    assert {point.name for point in entry_points(group=COMMANDS)} <= set(found)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bisieve sco", ["score"]),
        ("bisieve score --in", ["--input", "--index"]),
        ("bisieve score --strategy rel", ["reliable"]),
        ("bisieve train --ba", ["--backbone"]),
        ("bisieve report --index ro", ["rollouts.jsonl"]),
        ("bisieve report --no-such-option --js", ["--json"]),
        ("bisieve nosuch --", []),
    ],
)
def test_a_word_is_continued(line: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "rollouts.jsonl").touch()
    found = completions(line, tmp_path)
    assert set(expected) <= set(found)
    start = line.split()[-1]
    assert all(word.startswith(start) for word in found if word)


@pytest.mark.parametrize("module", ["cli/main.py", "__main__.py"])
def test_the_modules_are_marked_for_completion_of_all_python_programs(module: str) -> None:
    assert "PYTHON_ARGCOMPLETE_OK" in (ROOT / "lib/bisieve" / module).read_text()[:1024]
