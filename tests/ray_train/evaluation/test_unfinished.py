"""Rewards that are kept while a scoring is not finished."""

from pathlib import Path

import pytest

from bisieve.errors import TrainingError
from ray_train.evaluation import unfinished as module
from ray_train.evaluation.unfinished import Unfinished

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
    monkeypatch.setattr(module, "EVERY", 0.0)
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
