"""``bisieve best-of`` with a model in this process; the scoring by Ray is that of an evaluation."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

from bisieve.cli.main import run_command
from bisieve.errors import ImageError, UsageError
from ray_train import StepScorer
from ray_train.evaluation import scoring
from ray_train.evaluation.benchmark import Solution
from ray_train.evaluation.best_of import best_of
from ray_train.evaluation.config import BestOfConfig
from ray_train.evaluation.scorer import Scorer

RESPONSES = [["I look.", "Final answer: 3"], ["Final answer: 4"], ["", "Hm.", "So final answer: 3"], []]


@pytest.fixture
def config(internvl: Path, tmp_path: Path) -> BestOfConfig:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        Image.new("RGB", (30 + number, 28), (80 * number, 9, 9)).save(images / f"{number}.png")
    lines = [
        {"question": f"How many in {n}?", "image": f"{n % 3}.png", "answer": "3", "responses": RESPONSES}
        for n in range(4)
    ]
    (tmp_path / "candidates.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return BestOfConfig(
        model=str(internvl), candidates=str(tmp_path / "candidates.jsonl"), image_root=str(images),
        output=str(tmp_path / "picks"), max_tiles=1,
    )  # fmt: skip


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Score in this process in place of Ray's workers; returns the questions of each batch."""
    batches: list[list[str]] = []

    def scored(config: BestOfConfig, left: Sequence[Solution]) -> Iterator[tuple[int, list[float]]]:
        scorer = Scorer(config.model, config.max_length, config.max_tiles)
        for first in range(0, len(left), 3):
            batch = left[first : first + 3]
            batches.append([solution.question for solution in batch])
            for solution, rewards in zip(batch, scorer.score(batch, config.image_root), strict=True):
                yield solution.line, rewards

    monkeypatch.setattr(scoring, "_scored", scored)
    return batches


def test_the_best_response_by_the_models_rewards_is_picked(
    config: BestOfConfig, in_process: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = best_of(config)
    output = Path(config.output)
    assert json.loads((output / "best-of.json").read_text()) == numbers
    assert (numbers["questions"], numbers["responses"], numbers["most_responses"]) == (4, 16, 4)
    assert numbers["unscored_responses"] == 0
    assert numbers["methods"]["pass@1"]["accuracy"] == 0.5
    assert numbers["methods"]["oracle"]["accuracy"] == numbers["methods"]["majority"]["accuracy"] == 1
    lines = [json.loads(line) for line in (output / "picks.jsonl").read_text().splitlines()]
    scorer, right = StepScorer(config.model), 0
    for line in lines:
        image = str(Path(config.image_root, line["image"][0]))
        expected = scorer.score_batch(
            [(line["question"], [image], [step for step in steps if step]) for steps in RESPONSES[:3]]
        )
        for response, rewards in zip(line["responses"], [*expected, []], strict=True):
            assert response["rewards"] == pytest.approx(rewards, abs=1e-4)
        means = [sum(rewards) / len(rewards) for rewards in expected]
        assert line["pick"] == means.index(max(means))
        right += line["responses"][line["pick"]]["correct"]
    assert numbers["methods"]["mean"]["accuracy"] == right / 4
    assert all(len(set(questions)) == 1 for questions in in_process), "so that they share their prompt"
    assert sorted(file.name for file in output.iterdir()) == ["best-of.json", "picks.jsonl"]
    assert "candidates: 4 questions, 16 responses" in capsys.readouterr().out


def test_the_command_is_thin_and_prints_its_options(
    config: BestOfConfig, in_process: list[list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in vars(config).items() if value != ""]
    assert run_command("ray_train.cli.best_of", [*flags, "--print-config"]) == 0
    assert 'aggregate = "mean"' in capfd.readouterr().out
    assert not in_process
    assert run_command("ray_train.cli.best_of", [*flags, "--aggregate", "min"]) == 0
    assert "best of 4 by min" in capfd.readouterr().out
    assert run_command("ray_train.cli.best_of", [*flags, "--json"]) == 0
    captured = capfd.readouterr()
    assert json.loads(captured.out) == json.loads(Path(config.output, "best-of.json").read_text())
    assert "best of 4 by min" in captured.err


def test_the_command_reports_its_picks_to_openlineage(
    config: BestOfConfig, in_process: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("TYPE", "file"), ("LOG_FILE_PATH", str(tmp_path / "events")), ("APPEND", "true")):
        monkeypatch.setenv(f"OPENLINEAGE__TRANSPORT__{name}", value)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in vars(config).items() if value != ""]
    assert run_command("ray_train.cli.best_of", flags) == 0
    start, complete = (json.loads(line) for line in (tmp_path / "events").read_text().splitlines())
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    assert complete["job"]["name"] == "best-of"
    assert [one["name"] for one in complete["inputs"]] == [config.model, config.candidates]
    assert [one["name"] for one in complete["outputs"]] == [config.output]


def test_wrong_options_and_missing_images_are_found_before_the_model_is_loaded(config: BestOfConfig) -> None:
    for name, value in (("answer_pattern", "("), ("answer_pattern", "no group"), ("confidence", 1.0)):
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
            best_of(BestOfConfig(**{**vars(config), name: value}))
    Path(config.image_root, "1.png").unlink()
    with pytest.raises(ImageError, match=r"1 missing, such as 1\.png; correct --image-root or --candidates"):
        best_of(config)
    assert not Path(config.output).exists()
