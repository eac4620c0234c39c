"""Comparisons of evaluations: paired, apart and together, without the models."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bisieve.cli.main import run_command
from bisieve.errors import TrainingError
from ray_train.evaluation.benchmark import Solution
from ray_train.evaluation.bootstrap import draws, interval, measured
from ray_train.evaluation.compare import (
    FEW,
    better,
    compare_evaluations,
    compare_with_each,
    is_equivalent,
    least,
)
from ray_train.evaluation.metrics import ALL, judged_steps
from ray_train.evaluation.report import report
from ray_train.evaluation.scores_file import write_evaluation
from ray_train.evaluation.tables import NAMES

Write = Callable[..., str]
RNG = np.random.default_rng(3)
HARD = RNG.normal(0, 0.3, 160)  # how much too high all models judge the steps of a question
SOLUTIONS = [
    Solution(
        n + 1, (f"{n}.png",), "Why?", ("one", "two", "three"), tuple(RNG.choice([1, 1, -1], 3).tolist()),
        f"source{n % 2}", "p",
    )
    for n in range(160)
]  # fmt: skip


def rewards_of(skill: float, seed: int, bias: np.ndarray = HARD) -> list[list[float]]:
    """Rewards of a model: the judgements with noise, and with what makes a question hard for all."""
    rng = np.random.default_rng(seed)
    noisy = [
        np.array(solution.judgements) * skill + hard + rng.normal(0, 0.1, 3)
        for solution, hard in zip(SOLUTIONS, bias, strict=True)
    ]
    return [np.clip(0.5 + each, 0, 1).tolist() for each in noisy]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes an evaluation, as `evaluate` does."""

    def written(
        name: str, rewards: list[list[float]], asked: str | float = 0.5, seed: int = 0, sha: str = "b",
        solutions: list[Solution] = SOLUTIONS,
    ) -> str:  # fmt: skip
        numbers = report(judged_steps(solutions, rewards), seed, asked=asked)
        numbers |= {"model": name, "benchmark_sha256": sha}
        write_evaluation(str(tmp_path / name), numbers, solutions, rewards)
        return str(tmp_path / name)

    return written


def test_a_better_model_is_better_in_every_metric_and_the_same_model_in_none(write: Write) -> None:
    a, b = write("worse", rewards_of(0.1, 1)), write("better", rewards_of(0.3, 2))
    found = compare_evaluations(a, b)
    of_b = json.loads(Path(b, "metrics.json").read_text())
    for name, entry in found.metrics[ALL].items():
        assert entry["b"] == pytest.approx(of_b[name])
        assert entry["difference"] == pytest.approx(entry["b"] - entry["a"])
    assert found.metrics[ALL]["auc"]["interval"][0] > 0
    assert set(found.metrics) == {ALL, "source0", "source1"}
    row = next(line for line in found.report().splitlines() if line.startswith("AUC of source1 "))
    assert row.endswith("B")
    same = compare_evaluations(a, a)
    assert {entry["difference"] for scope in same.metrics.values() for entry in scope.values()} == {0.0}
    assert not any(line.endswith(("A", "B")) for line in same.report().splitlines()[3:])
    assert same.report().count(" not shown\n") == len(same.metrics[ALL]) + 2 * 2
    assert "not shown: no difference is, and no equality either" in same.report()


def verdicts(report: str) -> dict[str, str]:
    """Return the last column of the table by the first; both may have several words."""
    lines = [line.split("  ") for line in report.splitlines() if line.startswith(tuple(NAMES.values()))]
    return {line[0]: line[-1].strip() for line in lines}


def test_no_difference_is_called_equivalent_only_if_its_interval_is_inside_the_margin(write: Write) -> None:
    a, b = write("a", rewards_of(0.2, 1)), write("b", rewards_of(0.2, 2))
    low, high = compare_evaluations(a, b).metrics[ALL]["auc"]["interval"]
    assert low < 0 < high
    reach = max(-low, high)
    for margin, equivalent in ((None, None), (0.99 * reach, False), (1.01 * reach, True)):
        found = compare_evaluations(a, b, margin=margin)
        assert found.metrics[ALL]["auc"]["equivalent"] is equivalent
        assert found.metrics[ALL]["auc"]["better"] is None
        said = "equivalent" if equivalent else "not shown"
        assert verdicts(found.report())["AUC"] == said
    assert f"equivalent: the interval is inside ±{1.01 * reach:g}, and there are" in found.report()


def test_a_model_that_is_better_by_less_than_the_margin_is_both(write: Write) -> None:
    a, b = write("worse", rewards_of(0.1, 1)), write("better", rewards_of(0.3, 2))
    found = compare_evaluations(a, b, margin=0.9)
    assert found.metrics[ALL]["auc"]["better"] == "B"
    assert found.metrics[ALL]["auc"]["equivalent"] is True
    assert verdicts(found.report())["AUC"] == "B < 0.9"
    assert "< 0.9: better, but by less than the margin" in found.report()
    assert verdicts(compare_evaluations(a, b, margin=0.001).report())["AUC"] == "B"


def test_a_few_questions_on_which_models_agree_do_not_show_that_they_are_equivalent(write: Write) -> None:
    same = rewards_of(0.2, 1)
    found = compare_evaluations(write("a", same), write("b", same), margin=0.02)
    assert least(0.02, 0.95) == 150
    assert found.metrics[ALL]["auc"]["equivalent"] is True, "160 questions"
    assert found.metrics["source0"]["auc"] == found.metrics["source0"]["auc"] | {
        "interval": [0.0, 0.0], "equivalent": False, "better": None,
    }  # fmt: skip
    assert "and there are 150 questions or more" in found.report()


def test_the_guess_by_position_is_beside_both_models_and_it_is_said_which_do_not_beat_it(
    write: Write,
) -> None:
    rng = np.random.default_rng(0)
    blind = [rng.random(3).tolist() for _ in SOLUTIONS]
    good, bad = write("good", rewards_of(0.3, 2)), write("bad", blind)
    found = compare_evaluations(good, bad)
    of_good = json.loads(Path(good, "metrics.json").read_text())
    assert found.position[ALL]["auc"] == of_good["position_baseline"]["auc"]
    assert found.position["source1"]["auc"] == of_good["sources"]["source1"]["position_auc"]
    assert found.beat_position == (True, False)
    (row,) = [line for line in found.report().splitlines() if line.startswith("AUC  ")]
    assert row.split()[1] == f"{of_good['position_baseline']['auc']:.4f}"
    assert "B does not beat a guess by the position of a step alone" in found.report()
    assert "neither A nor B beats a guess by the position" in compare_evaluations(bad, bad).report()
    assert "a guess by the position" not in compare_evaluations(good, good).report()


def test_lower_is_better_for_errors(write: Write) -> None:
    found = compare_evaluations(write("a", rewards_of(0.3, 2)), write("b", rewards_of(0.1, 1)))
    assert found.metrics[ALL]["brier"]["difference"] > 0
    (row,) = [line for line in found.report().splitlines() if line.startswith("Brier score ")]
    assert row.endswith("A")


def test_the_interval_is_of_differences_of_the_same_drawn_questions(write: Write) -> None:
    rewards = rewards_of(0.2, 1), rewards_of(0.22, 2)
    found = compare_evaluations(write("a", rewards[0]), write("b", rewards[1]))
    steps = [judged_steps(SOLUTIONS, each) for each in rewards]
    names = np.unique(steps[0].questions)
    drawn = []
    for times in draws(len(names), 0)[:400]:
        weights = times[np.searchsorted(names, steps[0].questions)]
        first, second = (roc_auc_score(s.correct, s.rewards, sample_weight=weights) for s in steps)
        drawn.append(second - first)
    low, high = found.metrics[ALL]["auc"]["interval"]
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.004)
    # What is hard for both cancels out: unpaired intervals would be far wider.
    of_a = json.loads(Path(found.a, "metrics.json").read_text())["intervals"]["auc"]
    assert high - low < 0.7 * (of_a[1] - of_a[0])


def test_only_reported_steps_that_both_scored_are_compared(write: Write) -> None:
    whole, cut = rewards_of(0.2, 1), rewards_of(0.2, 2)
    cut[0], cut[5] = cut[0][:1], []
    found = compare_evaluations(write("a", whole), write("b", cut))
    assert (found.steps, found.left_out) == (160 * 3 - 5, 5)
    assert "left out: 5 steps that only one of the models scored" in found.report()
    halves = compare_evaluations(*(write(n, whole, asked="calibration") for n in "cd"))
    assert halves.steps == json.loads(Path(halves.a, "metrics.json").read_text())["steps"] < 300


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"sha": "c"},
            r"the same --benchmark; found other solutions in .* than in .*the --benchmark of the other",
        ),
        ({"asked": 0.5}, "the same --threshold; found calibration and fixed"),
        ({"seed": 1}, "the same --seed; found 0 and 1"),
    ],
)
def test_evaluations_of_other_steps_are_not_compared(
    write: Write, other: dict[str, Any], message: str
) -> None:
    rewards = rewards_of(0.2, 1)
    first = write("a", rewards, asked="calibration")
    with pytest.raises(TrainingError, match=message):
        compare_evaluations(first, write("b", rewards, **{"asked": "calibration", **other}))


def test_a_threshold_tuned_on_the_test_set_is_marked(write: Write) -> None:
    found = compare_evaluations(*(write(name, rewards_of(0.2, 1), asked="test") for name in "ab"))
    assert "TUNED ON THE TEST SET" in found.report()


def test_the_command_compares_several_with_the_first_as_text_or_json(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = [write(name, rewards_of(0.2, seed)) for seed, name in enumerate("abc")]
    words = ["--metrics", urls[0], "--other", *urls[1:]]
    assert run_command("ray_train.cli.compare", words) == 0
    shown = capsys.readouterr().out
    assert (shown.count("A: a\n"), shown.count("B: b\n"), shown.count("B: c\n")) == (2, 1, 1)
    assert max(map(len, shown.splitlines())) <= 100
    assert run_command("ray_train.cli.compare", [*words, "--json", "--confidence", "0.9"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["b"] for each in document] == urls[1:]
    assert document[0] == json.loads(json.dumps(compare_evaluations(*urls[:2], 0.9).numbers()))
    assert run_command("ray_train.cli.compare", [*words, "--margin", "0.02"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("equivalent: the interval is inside ±0.02, and there are 150 questions or more\n") == 2
    assert max(map(len, shown.splitlines())) <= 100
    for option, wrong, hint in (
        ("confidence", "95", "found 95; for 95% give 0.95"),
        ("confidence", "0", "found 0; give 0.95, for example"),
        ("margin", "1.5", "found 1.5; give 0.02, for example"),
    ):
        assert run_command("ray_train.cli.compare", [*words, f"--{option}", wrong]) == 2
        assert f"expected a --{option} in (0, 1); {hint}" in capsys.readouterr().err


def test_an_evaluation_is_measured_once_for_all_that_it_is_compared_with(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [write(name, rewards_of(0.2, seed)) for seed, name in enumerate("abc")]
    urls.append(write("cut", [each[:2] for each in rewards_of(0.3, 4)]))
    one_by_one = [compare_evaluations(urls[0], other) for other in urls[1:]]
    calls = []

    def counted(*asked: Any) -> Any:
        calls.append(asked)
        return measured(*asked)

    monkeypatch.setattr("ray_train.evaluation.compare.measured", counted)
    assert compare_with_each(urls[0], urls[1:3]) == one_by_one[:2]
    assert len(calls) == 3
    assert compare_with_each(urls[0], urls[1:]) == one_by_one
    assert one_by_one[2].left_out > 0
    assert len(calls) == 3 + 5  # for the last one only the steps that both scored


def test_neither_torch_nor_ray_nor_scikit_learn_is_needed(write: Write) -> None:
    a, b = (write(name, rewards_of(0.2, 1)) for name in "ab")
    words = ["--metrics", a, "--other", b]
    code = (
        "import sys; from bisieve.cli.main import run_command; "
        f"assert run_command('ray_train.cli.compare', {words}) == 0; "
        "print({'torch', 'ray', 'transformers', 'sklearn', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("ends", "of_auc", "of_brier"),
    [
        ([0.01, 0.02], "B", "A"),
        ([-0.02, -0.01], "A", "B"),
        ([-0.01, 0.01], None, None),
        ([0.0, 0.01], None, None),
        (None, None, None),
    ],
)
def test_the_better_model_has_the_higher_metric_or_the_lower_error(
    ends: list[float] | None, of_auc: str | None, of_brier: str | None
) -> None:
    assert (better("auc", ends, FEW), better("brier", ends, FEW)) == (of_auc, of_brier)
    assert better("auc", ends, FEW - 1) is None


def test_a_source_of_few_questions_shows_no_better_model(write: Write) -> None:
    """With 3 questions the intervals of two equal models would exclude 0 in a quarter of all cases."""
    kept = [solution for solution in SOLUTIONS if solution.source == "source0"]
    kept += [solution for solution in SOLUTIONS if solution.source == "source1"][:3]
    at = [SOLUTIONS.index(solution) for solution in kept]
    a, b = ([rewards_of(skill, seed)[n] for n in at] for skill, seed in ((0.05, 1), (0.5, 2)))
    found = compare_evaluations(write("a", a, solutions=kept), write("b", b, solutions=kept))
    assert found.questions == {ALL: 83, "source0": 80, "source1": 3}
    assert found.metrics["source1"]["brier"]["interval"][1] < 0, "all three agree"
    assert {entry["better"] for entry in found.metrics["source1"].values()} == {None}
    assert found.metrics["source0"]["brier"]["better"] == found.metrics[ALL]["brier"]["better"] == "B"
    lines = found.report().splitlines()
    assert all(line.endswith("  too few") for line in lines if " of source1 " in line)
    assert "too few: fewer than 20 questions, of which an interval is too narrow" in lines


@pytest.mark.parametrize(
    ("ends", "margin", "questions", "equivalent"),
    [
        ([-0.01, 0.015], 0.02, 500, True),
        ([-0.01, 0.02], 0.02, 500, False),
        ([-0.02, 0.01], 0.02, 500, False),
        ([0.0, 0.0], 0.02, 149, False),
        ([0.0, 0.0], 0.02, 150, True),
        ([0.0, 0.0], None, 500, None),
        (None, 0.02, 500, None),
    ],
)
def test_equivalent_needs_an_interval_inside_the_margin_and_enough_questions(
    ends: list[float] | None, margin: float | None, questions: int, equivalent: bool | None
) -> None:
    assert is_equivalent(ends, margin, questions, 0.95) is equivalent
    assert (least(0.01, 0.95), least(0.01, 0.9)) == (300, 231)


def test_models_that_differ_by_the_margin_are_hardly_ever_called_equivalent() -> None:
    """Of 300 intervals of differences that are as large as the margin, at most 5 %."""
    margin, weights = 0.02, draws(200, 0)
    of_questions = np.random.default_rng(0).normal(margin, 0.05, (200, 300))
    drawn = weights @ of_questions / 200
    called = sum(bool(is_equivalent(interval(each, 0.95), margin, 200, 0.95)) for each in drawn.T)
    assert called <= 15
