"""What ranks find out about one another before they start."""

from typing import Any

import pytest
import torch.distributed as dist

from bisieve.errors import TrainingError
from ray_train.run import agreement

FACTS = {"number of steps": 8, "order of the rollouts": "ab", "global batch": 6}


def gathered(monkeypatch: pytest.MonkeyPatch, *of_ranks: dict[str, Any]) -> None:
    """Puts the facts of other ranks in place of those that the process group would bring."""
    monkeypatch.setattr(dist, "get_world_size", lambda: len(of_ranks))
    monkeypatch.setattr(
        dist, "all_gather_object", lambda found, ours: found.__setitem__(slice(None), of_ranks)
    )


def test_ranks_with_the_same_plan_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    gathered(monkeypatch, FACTS, dict(FACTS))
    before = agreement.meetings()
    agreement.check_agreed(FACTS)
    assert agreement.meetings() == before + 1


@pytest.mark.parametrize("name", FACTS)
def test_a_rank_with_another_plan_is_named_before_the_first_step(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered(monkeypatch, FACTS, {**FACTS, name: 7}, FACTS)
    with pytest.raises(TrainingError, match=rf"the same {name}.*on ranks 0, 2; 7 on rank 1"):
        agreement.check_agreed(FACTS)
