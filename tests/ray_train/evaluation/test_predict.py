"""``bisieve predict``: the solutions of a file with their rewards."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.published import publish

from bisieve.cli.main import run_command
from ray_train import PredictConfig, StepScorer, predict

RECORDS: list[dict[str, Any]] = [
    {"question": "How many?", "image": "bars.png", "steps": ["There are 3.", " So 3. "], "id": 7},
    {"question": "How many?", "image": ["bars.png"], "text": "There are 3.\n\n\nSo 4.\nOr 5."},
    {"question": "Why?", "steps": ["é <prm> is in the text."]},
]


@pytest.fixture(scope="module")
def model(internvl: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("predict") / "model"
    publish(internvl, folder)
    return str(folder)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "bars.png")
    return written(tmp_path, *RECORDS)


def written(folder: Path, *records: Any) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (folder / "solutions.jsonl").write_text("\n".join(lines) + "\n\n")
    return folder / "solutions.jsonl"


def run(model: str, file: Path, *others: str) -> int:
    return run_command("ray_train.cli.predict", ["--model", model, "--input", str(file), *others])


def test_the_records_come_back_in_their_order_with_steps_rewards_and_scores(
    model: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, file, "--batch", "2") == 0
    printed = capsys.readouterr()
    found = [json.loads(line) for line in printed.out.splitlines()]
    assert [{name: one[name] for name in record} for one, record in zip(found, RECORDS, strict=True)] == [
        record | ({"steps": ["There are 3.", "So 3."]} if "id" in record else {}) for record in RECORDS
    ]
    assert found[1]["steps"] == ["There are 3.", "So 4.\nOr 5."]
    scorer, picture = StepScorer(model), file.parent / "bars.png"
    for one in found[:2]:
        expected = scorer.score("How many?", [picture], one["steps"])
        assert one["rewards"] == pytest.approx(expected, abs=1e-5)
        assert one["scores"]["mean"] == pytest.approx(sum(expected) / 2, abs=1e-5)
        assert one["scores"]["min"] == pytest.approx(min(expected), abs=1e-5)
    assert found[2]["rewards"] == [None]
    assert set(found[2]["scores"].values()) == {None}
    assert printed.err.splitlines() == [
        "importing torch and transformers",
        f"loading {model}",
        "not scored: 1 step of solutions that are too long, or have a token of the prompt in the text",
    ]


def test_a_file_gets_the_lines_that_a_program_gets(model: str, file: Path, tmp_path: Path) -> None:
    assert run(model, file, "--output", str(tmp_path / "scored.jsonl"), "--split", "lines") == 0
    lines = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text("utf-8").splitlines()]
    assert lines == predict(PredictConfig(model=model, input=str(file), split="lines"))
    assert lines[1]["steps"] == ["There are 3.", "So 4.", "Or 5."]
    assert "é <prm>" in (tmp_path / "scored.jsonl").read_text("utf-8")


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ('{"question": "Q", "steps": ["a"', "solutions.jsonl; found broken JSON at its character 32: Expect"),
        ({"question": "Q"}, "no steps"),
        ({"question": "Q", "steps": []}, "no steps"),
        ({"question": "Q", "text": " \n "}, "no steps"),
        ({"question": " ", "steps": ["a"]}, "no question"),
        ({"question": "Q", "steps": ["a"], "text": "a"}, "steps and text"),
        ('{"question": "Q", "steps": ["a"], "id": ' + "[" * 100_000 + "]" * 100_000 + "}", "too deep"),
        ('{"question": "Q", "steps": ["a"], "id": NaN}', "not JSON compliant"),
        ('{"question": "Q", "steps": ["a"], "id": 1e999}', "not JSON compliant"),
        (r'{"question": "Q", "steps": ["a"], "id": "\ud800"}', "surrogates not allowed"),
        (r'{"question": "Q\ud800", "steps": ["a"]}', "surrogates not allowed"),
        ({"question": "Q", "steps": [3]}, "Expected `str`, got `int`"),
        ({"question": "Q", "steps": ["a"], "image": "none.png"}, "none.png"),
        ({"question": "Q", "steps": ["a"], "image": "../up.png"}, "stays below the image root"),
        ({"question": "Q", "steps": ["a"], "image": ["bars.png", " "]}, "found an image without a name"),
    ],
)
def test_a_malformed_line_is_one_error_and_nothing_is_written(
    record: Any, found: str, model: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(file.parent, RECORDS[0], record)
    output = file.parent / "scored.jsonl"
    assert run(model, file, "--output", str(output)) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert found in error
    assert not output.exists()


@pytest.mark.parametrize("wrong", ["nowhere", "empty", "a-file"])
def test_what_is_no_model_is_named_before_torch_is_imported(
    wrong: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = file.parent / wrong
    if wrong == "empty":
        place.mkdir()
    elif wrong == "a-file":
        place.touch()
    assert run(str(place), file) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bisieve: error: expected a ")
    assert str(place) in line


@pytest.mark.parametrize("output", [".", "/dev/full"])
def test_an_output_that_is_no_file_is_refused_before_the_model_is_loaded(
    output: str, model: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(file.parent)
    assert run(model, file, "--output", output) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a path for a file at " in line


@pytest.mark.parametrize(
    "output", ["solutions.jsonl", "link.jsonl", "-", "scored.jsonl.gz", "scored.parquet"]
)
def test_an_output_that_would_replace_the_input_or_has_a_wrong_name_is_refused(
    output: str, model: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(file.parent)
    (file.parent / "link.jsonl").symlink_to(file)
    before = {path: path.read_bytes() for path in file.parent.iterdir()}
    assert run(model, file, f"--output={output}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--output than --input; found {output}" in line or f"--output; found {output}" in line
    assert {path: path.read_bytes() for path in file.parent.iterdir()} == before


def test_a_password_in_the_address_of_the_server_is_not_printed(
    model: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, file, "--server", "http://someone:password@127.0.0.1:9") == 1
    printed = capsys.readouterr().err
    assert printed.startswith("asking the server at http://***@127.0.0.1:9\n")
    assert "password" not in printed


def test_options_that_contradict_or_are_out_of_range_are_refused(
    model: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, file, "--batch", "0") == 2
    assert run(model, file, "--server", "http://localhost:1", "--risk", "1") == 2
    file.write_text("\n")
    assert run(model, file) == 1
    assert "an empty file" in capsys.readouterr().err
