"""What is held out: a benchmark with true labels, and candidates, of which nothing is seen in training."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisieve.synthetic.annotation import CLOSINGS, OPENINGS
from bisieve.synthetic.corpus import write_corpus
from bisieve.synthetic.corpus_config import CorpusConfig
from bisieve.synthetic.corpus_sources import make_sources
from bisieve.synthetic.held_out import (
    POLICIES,
    benchmark_lines,
    candidate_lines,
    make_benchmark,
    make_candidates,
    rollouts_per_task,
)
from bisieve.synthetic.pictures import held_out_digits
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


def made(total: int, responses: int, seed: int = 0, any_order: bool = False) -> list[dict[str, Any]]:
    parts = make_candidates(total, responses, seed, 0.005, any_order)
    return [json.loads(line) for part in parts for line in candidate_lines(part)]


def answer_of(response: list[str]) -> str:
    return response[-1].removeprefix("Final answer: ")


def test_each_question_has_an_answer_and_its_responses() -> None:
    records = made(60, 5)
    assert len(records) == 60
    assert {record["data_source"] for record in records} == {task.name for task in TASKS}
    for record in records:
        assert list(record) == ["image", "question", "answer", "responses", "data_source"]
        assert len(record["responses"]) == 5
        assert all(response[-1].startswith("Final answer: ") for response in record["responses"])
    assert made(60, 5) == records
    assert made(60, 5, seed=1) != records


def test_about_half_of_the_responses_are_right_and_most_questions_have_a_right_one() -> None:
    records = made(300, 16)
    right = np.array(
        [[answer_of(each) == record["answer"] for each in record["responses"]] for record in records]
    )
    assert 0.45 < right.mean() < 0.62
    assert right.any(axis=1).mean() > 0.85
    assert right.mean(axis=1).std() > 0.05, "some questions are harder than others"


def test_in_any_order_right_responses_to_a_question_are_different_texts() -> None:
    def distinct(any_order: bool) -> float:
        texts = [
            {" ".join(each[-5:]) for each in record["responses"] if answer_of(each) == record["answer"]}
            for record in made(60, 16, any_order=any_order)
            if record["data_source"] == "grid_sum"
        ]
        return float(np.mean([len(each) for each in texts if each]))

    assert distinct(any_order=False) < 4
    assert distinct(any_order=True) > 6


def test_their_digits_are_held_out() -> None:
    held_out = set(held_out_digits().index.tolist())
    for part in make_candidates(60, 2, 0, 0.005):
        assert set(part.pictures.digits.index[part.pictures.cells].flat) <= held_out


def test_a_corpus_has_them_with_their_pictures_if_it_is_asked_to(tmp_path: Path) -> None:
    config = CorpusConfig(rollouts=30, images=6, benchmark=0, candidates=12, responses=3)
    write_corpus(str(tmp_path), config)
    records = [json.loads(line) for line in (tmp_path / "candidates.jsonl").read_text().splitlines()]
    assert records == made(12, 3)
    assert all((tmp_path / name).is_file() for record in records for name in record["image"])
    images = [name for record in records for name in record["image"]]
    assert len(set(images)) == 12


@pytest.mark.parametrize("older", [True, False], ids=["made before there were any", "made now"])
def test_a_corpus_without_them_is_left_as_it_is(tmp_path: Path, older: bool) -> None:
    config = CorpusConfig(rollouts=30, images=6, benchmark=0)
    write_corpus(str(tmp_path), config)
    assert not (tmp_path / "candidates.jsonl").exists()
    if older:
        summary = json.loads((tmp_path / "corpus.json").read_text())
        del summary["settings"]["candidates"], summary["settings"]["responses"]
        (tmp_path / "corpus.json").write_text(json.dumps(summary))
    assert not write_corpus(str(tmp_path), config).made_now
