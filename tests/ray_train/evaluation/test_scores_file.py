"""The file of scores is complete in itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisieve.errors import TrainingError
from ray_train.evaluation.benchmark import Solution
from ray_train.evaluation.metrics import judged_steps
from ray_train.evaluation.report import report
from ray_train.evaluation.scores_file import read_evaluation, write_evaluation
from ray_train.evaluation.thresholds import in_calibration_half

SOLUTIONS = [
    Solution(n, ("a.png", "b.png"), f"Why {n // 2}?", ("one", "twö"), (1, (n % 3) - 1), "s", "p")
    for n in range(1, 41)
]
REWARDS = [[0.9, n / 41] if n != 7 else [0.25] for n in range(1, 41)]


@pytest.fixture(params=["calibration", 0.5])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    numbers = {"model": "m", **report(judged_steps(SOLUTIONS, REWARDS), seed=0, asked=request.param)}
    write_evaluation(str(tmp_path), numbers, SOLUTIONS, REWARDS)
    return numbers


def test_what_is_read_is_what_was_written(written: dict[str, Any], tmp_path: Path) -> None:
    for url in (tmp_path, tmp_path / "metrics.json"):
        numbers, scored = read_evaluation(str(url))
        assert numbers == written
        assert [each.solution for each in scored] == SOLUTIONS
        assert [each.rewards for each in scored] == REWARDS


def test_a_line_has_the_question_the_images_the_steps_and_the_verdicts(
    written: dict[str, Any], tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    threshold = written["threshold"]
    half = in_calibration_half([each.question_key for each in SOLUTIONS], 0)
    assert lines[6] == {
        "line": 7, "data_source": "s", "policy_model": "p", "image": ["a.png", "b.png"], "question": "Why 3?",
        "steps": ["one", "twö"], "process_correctness": [1, 0], "rewards": [0.25],
        "verdicts": [threshold <= 0.25],
        "reported": written["threshold_on"] == "fixed" or not bool(half[6]),
    }  # fmt: skip
    assert lines[20]["verdicts"] == [threshold <= 0.9, threshold <= 21 / 41]
    # The metrics can be computed again from the file alone.
    _, scored = read_evaluation(str(tmp_path))
    shown = [each for each in scored if each.reported]
    steps = judged_steps([each.solution for each in shown], [each.rewards for each in shown])
    verdicts = [
        verdict
        for each in shown
        for verdict, judged in zip(each.verdicts, each.process_correctness, strict=False)
        if judged
    ]
    assert len(steps) == written["steps"]
    assert ((steps.rewards >= threshold) == np.array(verdicts)).all()


def test_files_of_another_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "scores.jsonl").write_text('{"line": 1, "rewards": [0.5]}\n')
    with pytest.raises(TrainingError, match=r"scores\.jsonl of bisieve evaluate at .*; run bisieve evaluate"):
        read_evaluation(str(tmp_path))


def test_metrics_without_what_is_read_from_them_are_refused(written: dict[str, Any], tmp_path: Path) -> None:
    document = {name: value for name, value in written.items() if name != "position_baseline"}
    (tmp_path / "metrics.json").write_text(json.dumps(document))
    with pytest.raises(TrainingError, match=r"found no position_baseline in metrics\.json"):
        read_evaluation(str(tmp_path))


@pytest.mark.parametrize("other", ["threshold", "solutions"])
def test_metrics_and_scores_of_two_evaluations_are_refused(tmp_path: Path, other: str) -> None:
    """Else one would get the threshold of the one with the rewards of the other."""
    kept = SOLUTIONS if other == "threshold" else SOLUTIONS[:20]
    of_both = ((tmp_path / "a", SOLUTIONS, 0.5), (tmp_path / "b", kept, 0.6 if kept is SOLUTIONS else 0.5))
    for folder, solutions, asked in of_both:
        rewards = REWARDS[: len(solutions)]
        numbers = {"model": "m", **report(judged_steps(solutions, rewards), seed=0, asked=asked)}
        write_evaluation(str(folder), numbers, solutions, rewards)
    (tmp_path / "b" / "scores.jsonl").replace(tmp_path / "a" / "scores.jsonl")
    with pytest.raises(TrainingError, match=r"of one evaluation at .*; found those of two, or changed ones"):
        read_evaluation(str(tmp_path / "a"))
