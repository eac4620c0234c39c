"""What ranks find out about one another before they start."""

from typing import Any

import pytest
from support.forked_workers import ForkServer
from support.two_ranks import OTHER_PLANS, PLAN, by_case, compare_plans

pytestmark = pytest.mark.slow  # two ranks


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> list[list[Any]]:
    """By case, what each of two processes was told, and how often it met the other for that."""
    return by_case(forks, compare_plans, tmp_path_factory.mktemp("ranks") / "meeting")


def test_ranks_with_the_same_plan_go_on(told: list[list[Any]]) -> None:
    assert told[list(OTHER_PLANS).index("")] == [["", 1], ["", 1]]


@pytest.mark.parametrize("name", [name for name in OTHER_PLANS if name])
def test_both_ranks_are_told_what_differs_between_their_plans(name: str, told: list[list[Any]]) -> None:
    first, second = told[list(OTHER_PLANS).index(name)]
    assert first == second
    assert f"the same {name} on all ranks; found {PLAN.facts()[name]} on rank 0; " in first[0]
    assert first[0].split("; ")[2].endswith(" on rank 1")
    assert first[1] == 1, "they meet once, and nobody is left waiting"
