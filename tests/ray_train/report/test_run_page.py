"""The page of a run has the curves of its event files, its restarts and what it was trained on."""

import json
from pathlib import Path

import pytest
from support.tracked import write_run

from bisieve.cli.main import main
from bisieve.errors import TrainingError
from ray_train.report.events import read_curves
from ray_train.report.run import read_run, run_page, thinned


def test_the_curves_are_those_of_the_last_start(tmp_path: Path) -> None:
    output = write_run(tmp_path / "model")
    curves = read_curves(output, "abc-1")
    assert [start.step for start in curves.starts] == [0, 10]
    assert curves.values["loss"] == {step: 1.0 if step <= 10 else 0.5 for step in range(1, 21)}
    assert list(curves.values["validation_loss"]) == [5, 10, 15, 20]


def test_the_numbers_of_a_finished_run(tmp_path: Path) -> None:
    found = read_run(write_run(tmp_path / "model")).numbers()
    assert (found["run"], found["finished"], found["steps"]) == ("abc-1", True, 20)
    assert [start["step"] for start in found["restarts"]] == [10]
    assert found["metrics"]["mean_loss"] == 0.75
    assert found["mean"]["data_wait_share"] == 0.25
    assert [point["step"] for point in found["curves"]["validation_f1"]] == [5, 10, 15, 20]


def test_the_selection_is_reported_by_the_command_that_the_page_names(tmp_path: Path) -> None:
    output = Path(write_run(tmp_path / "model"))
    run = json.loads((output / "run.json").read_text())
    run["identity"] |= {"alpha": 0.2, "selection_seed": 3, "seed": 7, "exclude": "c" * 64}
    (output / "run.json").write_text(json.dumps(run))
    report = read_run(str(output))
    words = "--version aaaaaaaaaaaaaaaa --fraction 25% --alpha 0.2 --selection-seed 3 --exclude FILE_OF_IDS"
    assert f"bisieve report --index file:///index {words} --html FILE shows" in str(run_page(report))
    found = report.numbers()["trained_on"]
    assert (found["rollouts"], found["held_out"], found["fraction_delivered"]) == (12345, 100, 0.2499)


def test_a_validation_says_on_what_and_how_often(tmp_path: Path) -> None:
    text = str(run_page(read_run(write_run(tmp_path / "model"))))
    assert text.count("On 100 held-out rollouts, every 5 steps and at the end.") == 2


def test_a_run_that_is_not_finished_says_so(tmp_path: Path) -> None:
    page = run_page(read_run(write_run(tmp_path / "model", finished=False)))
    assert "not finished" in page.subtitle
    assert "Not finished." in str(page.sections[0])
    assert "Resumed once" in str(page.sections[0])


def test_a_run_without_curves_has_a_page(tmp_path: Path) -> None:
    output = write_run(tmp_path / "model")
    for file in (tmp_path / "model/tensorboard/abc-1").iterdir():
        file.unlink()
    page = run_page(read_run(output))
    assert [section.title for section in page.sections] == ["Verdict", "What it was trained on", "Options"]
    assert "There are no event files of this run" in str(page.sections[0])


def test_an_event_that_is_just_being_written_is_left_out(tmp_path: Path) -> None:
    output = write_run(tmp_path / "model")
    last = max((tmp_path / "model/tensorboard/abc-1").iterdir(), key=lambda path: path.name[-2:])
    last.write_bytes(last.read_bytes()[:-3])
    assert max(read_curves(output, "abc-1").values["loss"]) >= 10


def test_a_damaged_event_file_is_named(tmp_path: Path) -> None:
    output = write_run(tmp_path / "model")
    file = next((tmp_path / "model/tensorboard/abc-1").iterdir())
    data = bytearray(file.read_bytes())
    data[12:20] = b"\xff" * 8
    file.write_bytes(bytes(data))
    with pytest.raises(TrainingError, match="an event file of TensorBoard at file:///"):
        read_curves(output, "abc-1")


def test_a_long_curve_keeps_its_mean_and_its_ends() -> None:
    rows = thinned({step: float(step % 2) for step in range(1, 6001)})
    assert len(rows) == 600
    assert (rows[-1]["step"], rows[-1]["value"], rows[-1]["low"], rows[-1]["high"]) == (6000, 0.5, 0.0, 1.0)


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = write_run(tmp_path / "model")
    assert main(["report", "--run", output, "--html", str(tmp_path / "run.html"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 20
    assert "Training report" in (tmp_path / "run.html").read_text()
    assert main(["report", "--run", output, "--html", str(tmp_path / "run.html")]) == 0
    first, *others, last = capsys.readouterr().out.splitlines()
    assert first == "Resumed once, after step 10."
    titles = [line.partition(":")[0] for line in (*others, last) if not line.startswith(" ")]
    assert titles == ["Waiting for data", "Padding", "page"]


def test_a_folder_without_a_run_and_an_option_without_effect_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", "--run", str(tmp_path), "--html", str(tmp_path / "none.html")]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert f"expected the output of bisieve train (run.json) at file://{tmp_path}; found none; give" in error
    assert main([*words, "--image-root", "images"]) == 2
    assert "expected --image-root beside --index; found --run" in capsys.readouterr().err
    assert not (tmp_path / "none.html").exists()
