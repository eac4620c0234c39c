"""Candidates of the corpus: held-out questions with several responses of a weak solver."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisieve.synthetic.candidates import candidate_lines, make_candidates
from bisieve.synthetic.corpus import write_corpus
from bisieve.synthetic.corpus_config import CorpusConfig
from bisieve.synthetic.pictures import held_out_digits
from bisieve.synthetic.tasks import TASKS


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
