"""What ranks find out about one another before they start."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import multiprocessing
from two_ranks import OTHER_PLANS, PLAN, compare_plans


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """By case, what each of two processes was told, and how often it met the other for that."""
    meeting = tmp_path_factory.mktemp("ranks") / "meeting"
    multiprocessing.spawn(compare_plans, (str(meeting),), nprocs=2)
    ranks = (json.loads(Path(f"{meeting}-{rank}").read_text()) for rank in range(2))
    return [list(case) for case in zip(*ranks, strict=True)]


def test_ranks_with_the_same_plan_go_on(told: list[list[Any]]) -> None:
    assert told[list(OTHER_PLANS).index("")] == [["", 1], ["", 1]]


@pytest.mark.parametrize("name", [name for name in OTHER_PLANS if name])
def test_both_ranks_are_told_what_differs_between_their_plans(name: str, told: list[list[Any]]) -> None:
    first, second = told[list(OTHER_PLANS).index(name)]
    assert first == second
    assert f"the same {name} on all ranks; found {PLAN.facts()[name]} on rank 0; " in first[0]
    assert first[0].split("; ")[2].endswith(" on rank 1")
    assert first[1] == 1, "they meet once, and nobody is left waiting"
