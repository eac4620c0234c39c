"""Options of a command in a file, and all its options printed as such a file."""

import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from bisieve.cli.main import COMMANDS, main

# Their examples name a file of options, or another command.
NO_EXAMPLE = {"submit", "sweep"}

TOML = """
input = ["shards/a.jsonl", "shards/b.jsonl"]
index = "out"
alpha = 0.2
labels-as-scores = true
strict = false
field = ["question=prompt", "image=picture"]
"""
YAML = """
input: [shards/a.jsonl, shards/b.jsonl]
index: out
alpha: 0.2
labels_as_scores: true
strict: false
field:
  - question=prompt
  - image=picture
"""


@pytest.mark.parametrize(("name", "text"), [("a.toml", TOML), ("a.yaml", YAML), ("a.yml", YAML)])
def test_a_file_gives_options_and_the_command_line_wins(
    name: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert main(["score", "--config", str(file), "--alpha", "0.1", "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert 'input = ["shards/a.jsonl", "shards/b.jsonl"]' in printed
    assert 'field = ["question=prompt", "image=picture"]' in printed
    assert "alpha = 0.1\n" in printed
    assert "labels_as_scores = true" in printed
    assert "strict = false" in printed


def test_a_repeated_option_on_the_command_line_replaces_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.toml"
    file.write_text(TOML)
    ask = ["score", "--config", str(file), "--print-config"]
    assert main([*ask, "--field=step=text", "--field", "score=p", "--input", "c.jsonl"]) == 0
    printed = capsys.readouterr().out
    assert 'field = ["step=text", "score=p"]' in printed
    assert 'input = ["c.jsonl"]' in printed


def test_a_flag_of_a_file_can_be_switched_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.toml"
    file.write_text(TOML)
    ask = ["score", "--config", str(file), "--print-config"]
    assert main([*ask, "--no-labels-as-scores", "--strict"]) == 0
    printed = capsys.readouterr().out
    assert "labels_as_scores = false" in printed
    assert "strict = true" in printed


def test_one_of_several_options_in_a_file_gives_way_to_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.toml"
    file.write_text('index = "i"\njson = true')
    assert main(["lineage", "--config", str(file), "--print-config"]) == 0
    assert capsys.readouterr().out == 'index = "i"\njson = true\nquiet = false\n'
    assert main(["lineage", "--config", str(file), "--model", "m", "--print-config"]) == 0
    assert capsys.readouterr().out == 'model = "m"\njson = true\nquiet = false\n'


def test_printed_options_can_be_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = tmp_path / "first.toml"
    for words in (
        ["score", "--input", "a", "b", "--index", "o", "--field", 'step=a"b', "--log-format", "json"],
        ["gate", "--index", "o", "--fraction", "10%"],
        ["export", "--index", "o", "--fraction", "0.5", "--output", "x"],
        ["clean", "--index", "o", "--dry-run"],
        ["diff", "--index", "o", "--other", "p", "--other-fraction", "0.5"],
        ["lineage", "--checkpoint", "o/runs/a/checkpoint_1"],
        ["promote", "--model", "m", "--metrics", "n", "--pointer", "p.json", "--untrained"],
    ):
        assert main([*words, "--print-config"]) == 0
        first.write_text(capsys.readouterr().out)
        assert main([words[0], "--config", str(first), "--print-config"]) == 0
        assert capsys.readouterr().out == first.read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alhpa = 0.2", "found alhpa; did you mean alpha?"),
        ("strict = 1", "expected true or false for strict in "),
        ("alpha = [0.1, 0.2]", "expected one value for alpha in "),
        ("alpha = {x = 1}", "expected a value or a list of values for alpha in "),
        ("alpha = 'many'", "expected a number for --alpha; found many"),
        ("alpha =", "expected a TOML file at "),
        ("config = 'other'", "found config"),
    ],
)
def test_a_wrong_file_is_one_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "options.toml"
    file.write_text(text)
    assert main(["score", "--input", "a", "--index", "b", "--config", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_wrong_or_missing_yaml_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "options.yaml"
    for text in ("a: [", "- a", "\0"):
        file.write_text(text)
        assert main(["report", "--config", str(file)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["report", "--config", str(tmp_path / "none.yaml")]) == 1
    assert "found nothing" in capsys.readouterr().err


def test_training_reads_yaml_and_prints_its_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("index: i\nimage_root: r\nbackbone: org/name\noutput: o\nfraction: 10%\nworkers: 2-4\n")
    assert main(["train", "--config", str(file), "--epochs", "3", "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert "fraction = 0.1\n" in printed
    assert 'workers = "2-4"' in printed
    assert "epochs = 3" in printed
    (tmp_path / "again.toml").write_text(printed)
    assert main(["train", "--config", str(tmp_path / "again.toml"), "--print-config"]) == 0
    assert capsys.readouterr().out == printed


def test_a_typo_in_the_options_of_training_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "train.toml"
    file.write_text("global_bacth = 5")
    assert main(["train", "--config", str(file)]) == 2
    assert "found global_bacth; did you mean global_batch?" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted({point.name for point in entry_points(group=COMMANDS)} - NO_EXAMPLE))
def test_what_a_command_prints_of_its_options_is_printed_again_from_a_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = next(point for point in entry_points(group=COMMANDS) if point.name == name).load()
    (example,) = re.findall(r"bisieve ([^')]+)", module.EXAMPLE.replace("\\\n", " "))
    assert main([*shlex.split(example), "--print-config"]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "printed.toml").write_text(printed)
    assert main([name, "--config", "printed.toml", "--print-config"]) == 0
    assert capsys.readouterr().out == printed
