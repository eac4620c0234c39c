"""``bisieve corpus`` as a user meets it."""

import re
from pathlib import Path

import pytest

from bisieve.cli.main import run_command


def corpus(*options: object) -> int:
    return run_command("bisieve.cli.corpus", list(map(str, options)))


def test_the_command_prints_what_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert corpus("--output", tmp_path, "--rollouts", 200, "--images", 20, "--benchmark", 12) == 0
    shown = capsys.readouterr()
    assert re.fullmatch(r"making [\d,]+ rollouts\n", shown.err)
    lines = shown.out.splitlines()
    assert lines[0].split() == [
        "source",
        "rollouts",
        "steps",
        "mixed",
        "all-positive",
        "all-negative",
        "mean",
        "MC",
    ]
    assert [line.split()[:2] for line in lines[1:-1]] == [
        ["grid_sum", "100"],
        ["row_total", "40"],
        ["row_difference", "28"],
        ["count_above", "18"],
        ["bar_range", "10"],
        ["number_sum", "4"],
        ["all", "200"],
    ]
    assert lines[-1] == f"corpus written to file://{tmp_path}"


def test_a_second_run_finds_the_corpus_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--output", tmp_path, "--rollouts", 30, "--images", 6, "--benchmark", 0)
    assert corpus(*options) == 0
    first = capsys.readouterr().out
    assert corpus(*options) == 0
    assert capsys.readouterr().out == first.replace("corpus written to", "corpus already at")


def test_a_bad_option_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert corpus("--output", tmp_path / "new", "--rollouts", 0) == 2
    assert capsys.readouterr().err == (
        "bisieve: error: expected --rollouts of at least 1; found 0; give a larger number\n"
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [b'{"settings": {"ro', b"[]", b"{}"])
def test_a_half_written_mark_is_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "corpus.json").write_bytes(content)
    assert corpus("--output", tmp_path, "--rollouts", 30) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "corpus.json; found a truncated file, or one not written" in line
