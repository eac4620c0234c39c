"""The page of an evaluation agrees with its metrics, and shows the most confident mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_curve
from support.evaluated import write_evaluated
from support.scored_steps import some_steps

from bisieve.cli.main import main
from bisieve.report.html import plain
from ray_train.evaluation.metrics import ALL
from ray_train.evaluation.scores_file import read_evaluation
from ray_train.report.metrics import page, worst_mistakes
from ray_train.report.metrics_charts import (
    position_charts,
    reliability_charts,
    roc_chart,
    threshold_chart,
    wilson,
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return write_evaluated(tmp_path_factory.mktemp("evaluated"))


def test_the_roc_curve_is_that_of_scikit_learn() -> None:
    steps = some_steps(100)
    rows = [row for row in roc_chart(steps).spec["data"]["values"] if row["series"] == ALL]
    wrong, right, _ = roc_curve(steps.correct, steps.rewards, drop_intermediate=False)
    assert np.allclose([row["wrong"] for row in rows], wrong)
    assert np.allclose([row["right"] for row in rows], right)


def test_f1_at_the_threshold_that_was_used_is_that_of_the_metrics(evaluated: tuple[str, str]) -> None:
    numbers = page(evaluated[0]).numbers
    curve = [row for row in numbers["charts"]["F1 against the threshold"] if row["series"] == "macro-F1"]
    near = [row["F1"] for row in curve if abs(row["threshold"] - numbers["threshold"]) < 0.01]
    assert near
    assert min(near) - 0.02 <= numbers["pooled_macro_f1"] <= max(near) + 0.02
    assert threshold_chart(some_steps(10), 0.5).spec["layer"]


def test_the_bins_of_the_reliability_diagram_give_the_calibration_error(evaluated: tuple[str, str]) -> None:
    numbers = page(evaluated[0]).numbers
    bins = numbers["charts"]["Reliability"]
    steps = sum(row["steps"] for row in bins)
    error = sum(row["steps"] * abs(row["reward"] - row["share"]) for row in bins) / steps
    assert steps == numbers["steps"]
    assert error == pytest.approx(numbers["calibration_error"])
    assert all(row["low"] - 1e-9 <= row["share"] <= row["high"] + 1e-9 for row in bins)
    assert len(reliability_charts(some_steps(10))) == 2


def test_an_interval_of_a_share_is_wilsons() -> None:
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-3)


def test_places_with_few_steps_are_left_out() -> None:
    values, shares = position_charts(some_steps(15), 0.5)
    assert {row["step"] for row in values.spec["data"]["values"]} == {1, 2, 3}
    assert {row["step"] for row in shares.spec["data"]["values"]} == {1, 2, 3}
    assert position_charts(some_steps(4), 0.5)[0].spec["data"]["values"] == []


def test_the_worst_mistakes_are_wrong_verdicts_of_reported_steps(evaluated: tuple[str, str]) -> None:
    _, solutions = read_evaluation(evaluated[0])
    reported = [each for each in solutions if each.reported]
    found = worst_mistakes(reported)
    assert len(found) == 12
    assert [each.distance for each in found] == sorted((each.distance for each in found), reverse=True)
    for each in found:
        judgement = each.solution.process_correctness[each.step]
        assert each.solution.verdicts[each.step] != (judgement > 0)
        assert each.distance == abs(each.solution.rewards[each.step] - (judgement > 0))


def test_the_command_writes_the_page_with_images(
    evaluated: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics, images = evaluated
    words = ["report", "--metrics", metrics, "--html", str(tmp_path / "page.html"), "--json"]
    assert main([*words, "--image-root", images]) == 0
    assert json.loads(capsys.readouterr().out) == plain(page(metrics).numbers)
    text = (tmp_path / "page.html").read_text()
    assert text.count('<img src="data:image/jpeg') == 12
    assert "the images: name their root with --image-root" not in text
    assert main(words[:-1]) == 0
    assert "the images: name their root with --image-root" in (tmp_path / "page.html").read_text()
    printed = capsys.readouterr().out.splitlines()
    assert "Not shown: the images: name their root with --image-root." in printed
    assert [line.partition(":")[0] for line in printed if line.startswith(("Threshold", "Lower"))] == [
        "Threshold", "Lower bounds (95%, one-sided)",
    ]  # fmt: skip
