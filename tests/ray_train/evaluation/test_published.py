"""A file that claims to be VisualProcessBench is compared with its published counts."""

from dataclasses import replace

import pytest

from ray_train.evaluation.benchmark import Solution
from ray_train.evaluation.published import VISUALPROCESSBENCH, published_counts, published_line


@pytest.fixture(scope="module")
def whole() -> list[Solution]:
    """As many solutions, right steps and wrong steps as published; of each source the first has most."""
    made = []
    for source in ("MMMU_DEV_VAL", "MathVision_MINI", "MathVerse_MINI_Vision_Only", "DynaMath", "WeMath"):
        solutions, right, wrong = VISUALPROCESSBENCH[source.partition("_")[0]]
        one = Solution(1, ("a.png",), "Why?", ("a",), (1,), source, "")
        most = (1,) * (right - solutions + 1) + (-1,) * wrong + (0,)
        made += [replace(one, steps=("a",) * len(most), judgements=most), *[one] * (solutions - 1)]
    return made


def test_the_published_counts_are_those_of_the_paper() -> None:
    solutions, right, wrong = (sum(counts) for counts in zip(*VISUALPROCESSBENCH.values(), strict=True))
    assert (solutions, right, wrong) == (2866, 16585, 7691)


def test_the_whole_benchmark_is_recognized(whole: list[Solution]) -> None:
    found = published_counts(whole)
    assert found == {"is": "whole", "different": {}}
    assert "with the published counts" in published_line(found)


def test_a_part_says_what_is_missing(whole: list[Solution]) -> None:
    found = published_counts(whole[:-1])
    assert found == {"is": "part", "different": {"WeMath": {"solutions": [290, 291], "right": [1775, 1776]}}}
    assert "a part of VisualProcessBench: 290 solutions of WeMath instead of 291" in published_line(found)


def test_a_file_without_a_source_is_a_part(whole: list[Solution]) -> None:
    found = published_counts([solution for solution in whole if solution.source != "MMMU_DEV_VAL"])
    assert found == {
        "is": "part",
        "different": {"MMMU": {"solutions": [0, 267], "right": [0, 1698], "wrong": [0, 708]}},
    }


def test_judgements_that_were_changed_are_named(whole: list[Solution]) -> None:
    turned = replace(whole[-1], judgements=(-1,))
    found = published_counts([*whole[:-1], turned])
    assert found == {
        "is": "other counts",
        "different": {"WeMath": {"right": [1775, 1776], "wrong": [583, 582]}},
    }
    assert "but other counts: 1,775 right steps of WeMath instead of 1,776" in published_line(found)


def test_a_file_with_other_sources_claims_nothing(whole: list[Solution]) -> None:
    other = replace(whole[0], source="geometry")
    assert published_counts([*whole, other]) is None
    assert published_line(None) == ""
