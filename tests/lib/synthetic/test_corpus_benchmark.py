"""The held-out benchmark: VisualProcessBench's schema, true labels, nothing seen in training."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bisieve.synthetic.annotation import CLOSINGS, OPENINGS
from bisieve.synthetic.benchmark import POLICIES, benchmark_lines, make_benchmark, rollouts_per_task
from bisieve.synthetic.corpus_config import CorpusConfig
from bisieve.synthetic.corpus_sources import make_sources
from bisieve.synthetic.tasks import TASKS


def labels(record: dict[str, Any]) -> list[int]:
    return record["response"]["process_correctness"]


def test_a_record_has_the_fields_of_visualprocessbench(small_benchmark: list[dict[str, Any]]) -> None:
    names = {task.name for task in TASKS}
    for record in small_benchmark:
        assert list(record) == ["image", "question", "answer", "response", "policy_model", "data_source"]
        assert isinstance(record["image"], list)
        assert len(record["response"]["steps"]) == len(labels(record)) > 0
        assert record["policy_model"] in POLICIES
        assert record["data_source"] in names
    assert len(small_benchmark) == 120
    assert {record["data_source"] for record in small_benchmark} == names


def test_every_picture_of_the_benchmark_is_its_own(
    small_corpus: Path, small_benchmark: list[dict[str, Any]]
) -> None:
    images = [image for record in small_benchmark for image in record["image"]]
    assert len(set(images)) == len(images) == len(small_benchmark)
    assert all((small_corpus / image).is_file() for image in images)


def test_no_digit_and_so_no_picture_of_the_benchmark_is_shown_in_training(small_config: CorpusConfig) -> None:
    shown = {
        int(index)
        for source in make_sources(small_config)
        for index in source.pictures.digits.index[source.pictures.cells].flat
    }
    held_out = {
        int(index)
        for part in make_benchmark(120, small_config.seed, 0.01)
        for index in part.pictures.digits.index[part.pictures.cells].flat
    }
    assert len(shown) > 100
    assert len(held_out) > 100
    assert not shown & held_out


def test_a_step_that_claims_nothing_is_neutral_and_every_other_is_not(
    small_benchmark: list[dict[str, Any]],
) -> None:
    seen = set()
    for record in small_benchmark:
        for step, label in zip(record["response"]["steps"], labels(record), strict=True):
            assert (label == 0) == (step in OPENINGS + CLOSINGS)
            seen.add(label)
    assert seen == {1, 0, -1}


def test_after_a_wrong_step_all_are_wrong_until_one_mends(small_benchmark: list[dict[str, Any]]) -> None:
    for record in small_benchmark:
        claims = [
            (step, label)
            for step, label in zip(record["response"]["steps"], labels(record), strict=True)
            if label != 0
        ]
        for (_, before), (step, after) in pairwise(claims):
            assert (before, after) != (-1, 1) or step.startswith("Wait, that was wrong. ")


def test_a_rollout_without_a_wrong_step_ends_with_the_answer(small_benchmark: list[dict[str, Any]]) -> None:
    for record in small_benchmark:
        if -1 not in labels(record):
            assert record["response"]["steps"][-1] == f"Final answer: {record['answer']}"


def test_about_three_of_ten_steps_are_wrong() -> None:
    parts = list(make_benchmark(1_200, seed=0, correction_rate=0.005))
    held = [np.stack([p.correctness for p in part.attempts.positions]) for part in parts]
    wrong, right = (sum((flags == label).sum() for flags in held) for label in (-1, 1))
    assert 0.25 < wrong / (wrong + right) < 0.4


@given(st.integers(0, 10**6))
def test_every_rollout_of_the_benchmark_belongs_to_one_task(total: int) -> None:
    counts = rollouts_per_task(total)
    assert sum(counts) == total
    assert min(counts) >= 0


def test_the_smallest_sources_have_enough_rollouts_to_be_measured() -> None:
    assert min(rollouts_per_task(600)) >= 30


def test_a_benchmark_of_one_rollout_is_one_line() -> None:
    [part] = make_benchmark(1, seed=0, correction_rate=0.01)
    assert len(list(benchmark_lines(part))) == 1
