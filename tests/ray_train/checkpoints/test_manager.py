"""What a rank does about checkpoints, seen without a run."""

from typing import Any

import pytest

from bisieve.errors import StorageError
from ray_train.checkpoints import manager
from ray_train.config import TrainConfig


def test_old_checkpoints_that_a_store_keeps_are_said_with_the_number_of_the_next_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    refusals = iter(["503", "503", None, "503"])

    def refuse(*_: Any) -> None:
        if (found := next(refusals)) is not None:
            raise StorageError("a response from the store", found, "check the URL")

    monkeypatch.setattr(manager, "remove_others", refuse)
    monkeypatch.setattr(manager, "_committed", list)
    monkeypatch.setattr(manager.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(manager.dist, "get_world_size", lambda: 1)
    config = TrainConfig(index="/i", image_root="/r", backbone="/b", output="/o")
    mine = manager.CheckpointManager(config, "run", said.append)
    for _ in range(4):
        mine.settle()
    assert [line.partition(": ")[0] for line in said] == [
        f"old checkpoints were not removed, try {number} comes with the next one" for number in (2, 3, 2)
    ]
    assert all("found 503" in line for line in said)
