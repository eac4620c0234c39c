"""Files of other trainers, by the command: complete or not there, and nothing left out in silence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bisieve.api.functions import open_index
from bisieve.cli.main import main
from bisieve.errors import UsageError
from bisieve.tools.formats.registry import FORMATS, LINE_FORMATS

Make = Callable[..., Any]


@pytest.fixture
def index(
    score: Make, write_jsonl: Make, rollout: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An index of a usual rollout, one with <image> in a step, and one with two images."""
    monkeypatch.chdir(tmp_path)
    step = {"step": "See <image>.", "score": 1.0}
    records = [
        rollout([1.0, 0.0], rollout_id="usual"),
        rollout([1.0], rollout_id="shows", steps_with_score=[step]),
        rollout([0.5], rollout_id="several", image=["b.png", "c.png"]),
    ]
    score(write_jsonl("made.jsonl", records), tmp_path / "index")
    return tmp_path / "index"


def export(format: str, *more: str, output: str = "out") -> int:
    return main(
        ["export", "--index", "index", "--fraction", "1", "--format", format, "--output", output, *more]
    )


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("format", ["ms-swift", "sharegpt", "internvl"])
def test_nothing_is_written_if_a_rollout_cannot_be(
    format: str, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(format) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "1 rollout, such as shows: <image> in a step" in error
    assert "--skip-unsupported" in error
    assert not [path for path in tmp_path.glob("out*") if path.is_file() or any(path.iterdir())]


@pytest.mark.parametrize("format", ["ms-swift", "sharegpt"])
def test_such_rollouts_are_left_out_when_asked(
    format: str, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(format, "--skip-unsupported") == 0
    assert [line["images"] for line in lines(tmp_path / "out")] == [["a.png"], ["b.png", "c.png"]]
    printed = capsys.readouterr().out
    assert (
        f"{format}: <image> in a step, where trainers expect an image; 1 rollout, such as shows, left out"
        in printed
    )
    assert f"{format}: scores between 0 and 1, written as labels; 1 rollout, such as several\n" in printed
    assert "out: 2 of 3 rollouts" in printed


def test_internvl_gets_annotations_and_a_list_of_data_sets(index: Path, tmp_path: Path) -> None:
    assert export("internvl", "--skip-unsupported", "--image-root", "images") == 0
    annotations = tmp_path / "out/annotations.jsonl"
    assert [line["image"] for line in lines(annotations)] == ["a.png", ["b.png", "c.png"]]
    assert json.loads((tmp_path / "out/meta.json").read_text()) == {
        "out": {
            "root": str(tmp_path / "images"), "annotation": str(annotations), "data_augment": False,
            "repeat_time": 1, "length": 2,
        }
    }  # fmt: skip


def test_internvl_takes_one_folder_of_images(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roots = ("--skip-unsupported", "--image-root", "images", "--images")
    assert export("internvl", *roots, "embedded") == 2
    assert "expected one folder of all images, as --format internvl names one" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert export("internvl", *roots, "images/") == 0


def test_trl_carries_steps_that_show_an_image(index: Path, tmp_path: Path) -> None:
    assert export("trl") == 0
    assert [line["completions"] for line in lines(tmp_path / "out")][1] == ["See <image>."]


def test_a_selection_of_nothing_that_can_be_written_is_refused(index: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("usual\nseveral\n")
    assert export("sharegpt", "--skip-unsupported", "--exclude", "ids.txt") == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("format", "option"),
    [
        ("trl", ("--image-root", "images")),
        ("records", ("--image-root", "images")),
        ("mprm-jsonl", ("--skip-unsupported",)),
        ("hf-dataset", ("--images", "images")),
        ("hf-dataset", ("--skip-unsupported",)),
    ],
)
def test_an_option_that_has_no_effect_is_refused(
    format: str, option: tuple[str, ...], index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(format, *option) == 2
    assert f"no {option[0]} with --format {format}" in capsys.readouterr().err


def test_an_unknown_format_is_refused_in_python(index: Path) -> None:
    with pytest.raises(UsageError, match="did you mean sharegpt"):
        open_index(str(index)).select(1.0).write_format("out", "sharegtp")


def test_a_format_with_a_method_of_its_own_names_it(index: Path) -> None:
    with pytest.raises(UsageError, match="write_records"):
        open_index(str(index)).select(1.0).write_format("out", "records")


def test_every_format_is_in_the_help_and_the_guide(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    guide = Path(__file__).parents[4] / "docs/how-to/export.md"
    help_text = capsys.readouterr().out
    for name in FORMATS:
        assert f"{name}:" in help_text
        assert f"`{name}`" in guide.read_text()
    assert set(LINE_FORMATS) < set(FORMATS)


@pytest.mark.parametrize("format", ["mprm-jsonl", "records", "trl"])
def test_an_export_says_how_many_rollouts_are_written(format: str, index: Path) -> None:
    told = []

    def progress(event: str, text: str = "", **fields: Any) -> None:
        told.append((event, text, fields))

    selection = open_index(str(index)).select(1.0, progress=progress)
    if format == "mprm-jsonl":
        selection.write_jsonl("out")
    elif format == "records":
        selection.write_records("out")
    else:
        selection.write_format("out", format)
    fields = {"stage": "export", "tasks_done": 3, "tasks": 3}
    assert told == [("progress", "export: 3 of 3 rollouts", fields)]
