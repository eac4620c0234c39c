"""Scoring that is stopped and continued; Ray's part is tested in test_evaluate.py."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bisieve.errors import TrainingError
from ray_train.evaluation import scoring
from ray_train.evaluation.benchmark import Solution
from ray_train.evaluation.config import EvaluateConfig
from ray_train.evaluation.scoring import Unfinished, by_prompt, score_solutions, scoring_identity

SOLUTIONS = [Solution(n, (f"{n % 3}.png",), "Why?", ("a", "b"), (1, -1), "s", "p") for n in range(1, 10)]


@pytest.fixture
def config(tmp_path: Path) -> EvaluateConfig:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    return EvaluateConfig(
        model=f"file://{tmp_path}/model", benchmark="b", image_root="i", output=str(tmp_path / "out")
    )


def rewards_of(solution: Solution) -> list[float]:
    return [solution.line / 10, 0.5]


def test_solutions_of_a_question_are_scored_one_after_another() -> None:
    assert [solution.line for solution in by_prompt(SOLUTIONS)] == [1, 4, 7, 2, 5, 8, 3, 6, 9]


def test_a_scoring_that_was_stopped_continues_and_gives_the_same_rewards(
    config: EvaluateConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[int]] = []

    def stopped(_: EvaluateConfig, left: Sequence[Solution]) -> Iterator[tuple[int, list[float]]]:
        asked.append([solution.line for solution in left])
        for solution in left[:4]:
            yield solution.line, rewards_of(solution)
        if len(left) > 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "_scored", stopped)
    identity = scoring_identity(config, SOLUTIONS, None)
    for scored in (4, 8):
        with pytest.raises(KeyboardInterrupt) as stop:
            score_solutions(config, SOLUTIONS, Unfinished(config.output, identity))
        assert stop.value.__notes__ == [
            f"the scores of {scored} of 9 solutions are kept: the same command continues"
        ]
    rewards = score_solutions(config, SOLUTIONS, Unfinished(config.output, identity))
    assert rewards == [rewards_of(solution) for solution in SOLUTIONS]
    assert asked == [[1, 4, 7, 2, 5, 8, 3, 6, 9], [3, 6, 9, 5, 8], [8]]
    assert "continuing: 8 of 9 solutions were scored before" in capsys.readouterr().out


def test_where_everything_was_scored_no_worker_starts(
    config: EvaluateConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Unfinished(config.output, {})
    for solution in SOLUTIONS:
        known.add(solution.line, rewards_of(solution))
    monkeypatch.setattr(scoring, "_scored", None)
    assert score_solutions(config, SOLUTIONS, known) == [rewards_of(solution) for solution in SOLUTIONS]


def test_what_rewards_depend_on_changes_their_identity_and_machines_do_not(config: EvaluateConfig) -> None:
    first = scoring_identity(config, SOLUTIONS, None)
    more = EvaluateConfig(**{**vars(config), "workers": 9, "batch": 1, "threshold": "test", "seed": 5})
    assert scoring_identity(more, SOLUTIONS, None) == first
    for changed in (
        scoring_identity(EvaluateConfig(**{**vars(config), "max_length": 9}), SOLUTIONS, None),
        scoring_identity(EvaluateConfig(**{**vars(config), "image_root": "j"}), SOLUTIONS, None),
        scoring_identity(config, SOLUTIONS[:-1], None),
        scoring_identity(config, SOLUTIONS, {"run": "r"}),
    ):
        assert changed != first
    Path(config.model.removeprefix("file://"), "config.json").write_text('{"other": 1}')
    assert scoring_identity(config, SOLUTIONS, None)["model"] != first["model"], (
        "other files at the same place"
    )


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_is_an_error_that_says_so(
    reward: float, config: EvaluateConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: EvaluateConfig, left: Sequence[Solution]) -> Iterator[tuple[int, list[float]]]:
        yield from ((solution.line, [0.5, reward if solution.line == 4 else 0.5]) for solution in left)

    monkeypatch.setattr(scoring, "_scored", broken)
    with pytest.raises(TrainingError, match=r"1 of 18 that are none \(nan or inf\)"):
        score_solutions(
            config, SOLUTIONS, Unfinished(config.output, scoring_identity(config, SOLUTIONS, None))
        )


SAME = {"model": "m", "run": None, "risk": 0.0}


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_what_was_saved_is_known_to_the_next_process_and_removed_at_the_end(tmp_path: Path) -> None:
    first = Unfinished(str(tmp_path / "out"), SAME)
    assert first.rewards == {}
    first.add(1, [0.25, 0.5])
    assert not (tmp_path / "out").exists(), "nothing is written before it is due"
    first.save()
    first.add(2, [])
    first.save()
    first.add(3, [1.0])
    second = Unfinished(str(tmp_path / "out"), SAME)
    assert second.rewards == {1: [0.25, 0.5], 2: []}, "3 was not saved: it is scored again"
    second.add(3, [1.0])
    second.save()
    assert names(tmp_path / "out") == [
        "unfinished-00000.jsonl", "unfinished-00001.jsonl", "unfinished-00002.jsonl", "unfinished.json",
    ]  # fmt: skip
    assert Unfinished(str(tmp_path / "out"), SAME).rewards == {1: [0.25, 0.5], 2: [], 3: [1.0]}
    second.remove()
    assert names(tmp_path / "out") == []


def test_a_part_is_written_from_time_to_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "EVERY", 0.0)
    rewards = Unfinished(str(tmp_path), SAME)
    rewards.add(7, [0.5])
    assert Unfinished(str(tmp_path), SAME).rewards == {7: [0.5]}


@pytest.mark.parametrize("other", [{"model": "n"}, {"run": "r"}, {"risk": 1.0}], ids=str)
def test_rewards_of_another_model_or_option_are_never_mixed_in(tmp_path: Path, other: dict[str, str]) -> None:
    first = Unfinished(str(tmp_path), SAME)
    first.add(1, [0.5])
    first.save()
    ((name, value),) = other.items()
    with pytest.raises(
        TrainingError, match=rf"unfinished scores of {name} {value}.*found {name} {SAME[name]}"
    ):
        Unfinished(str(tmp_path), SAME | other)
    (tmp_path / "unfinished.json").unlink()  # as the error says
    again = Unfinished(str(tmp_path), SAME | other)
    assert again.rewards == {}
    again.add(2, [0.75])
    again.save()
    assert Unfinished(str(tmp_path), SAME | other).rewards == {2: [0.75]}, "the older part is gone"


def test_rewards_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    first = Unfinished(str(tmp_path), SAME)
    first.add(1, [float("nan")])
    first.add(2, [0.5])
    first.save()
    assert Unfinished(str(tmp_path), SAME).rewards == {2: [0.5]}
