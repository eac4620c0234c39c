"""An error that one rank meets in its data, or on its disk, ends a step on all ranks before the update."""

from typing import Any

import pytest
from support.forked_workers import ForkServer
from support.two_ranks import STEP_ERRORS, by_case, meet_errors

pytestmark = pytest.mark.slow  # two ranks

KINDS = {"batch": "ImageError", "sample log": "DiskError"}


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> list[list[Any]]:
    """By case, how each of two processes ended: the error, its text and the updates made before."""
    return by_case(forks, meet_errors, tmp_path_factory.mktemp("ranks") / "meeting")


@pytest.mark.parametrize("number", range(len(STEP_ERRORS)), ids=lambda number: str(STEP_ERRORS[number]))
def test_both_ranks_end_with_the_error_of_the_first_that_has_one_named_once(
    number: int, ends: list[list[Any]]
) -> None:
    one, other = ends[number]
    assert one == other
    kind, text, updates = one
    rank = min(STEP_ERRORS[number])
    assert kind == KINDS[STEP_ERRORS[number][rank]]
    assert text.count(f"none by rank {rank}") == text.count("none by rank") == 1
    assert updates == 1, "the first step's alone"


def test_without_an_error_both_go_on(ends: list[list[Any]]) -> None:
    assert ends[-1] == [["nothing", "", 2]] * 2
