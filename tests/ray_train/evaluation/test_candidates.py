"""Files of candidates: what is read, what is refused, and which final answers are the same."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisieve.errors import TrainingError
from ray_train.evaluation.candidates import (
    ANSWER,
    Question,
    final_answer,
    is_same,
    read_candidates,
    solutions_of,
)

RECORD: dict[str, Any] = {
    "question": " How many? ", "image": "a.png", "answer": 3, "data_source": "bars",
    "responses": [["I count.", "Final answer: 3"], [" Final answer: 4 "]],
}  # fmt: skip
TEXTS = ["I count.\n\nFinal answer: 3", "Final answer: 4"]
QUESTION = Question(
    1, ("a.png",), "How many?", "3", "bars", (("I count.", "Final answer: 3"), ("Final answer: 4",)),
    ("3", "4"), (True, False),
)  # fmt: skip


def read(path: Path, *records: Any, split: str = "paragraphs") -> list[Question]:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n")
    return read_candidates(str(path), split, ANSWER, "<prm>")


def test_responses_are_lists_of_steps_or_texts_that_are_split(tmp_path: Path) -> None:
    texts = {**RECORD, "responses": TEXTS}
    lines = {**RECORD, "responses": [text.replace("\n\n", "\n") for text in TEXTS]}
    assert read(tmp_path / "c.jsonl", RECORD) == [QUESTION]
    assert read(tmp_path / "c.jsonl", texts) == [QUESTION]
    assert read(tmp_path / "c.jsonl", lines, split="lines") == [QUESTION]
    assert read(tmp_path / "c.jsonl", lines)[0].responses[0] == ("I count.\nFinal answer: 3",)


@pytest.mark.parametrize("responses", [RECORD["responses"], TEXTS])
def test_parquet_has_the_same_questions(tmp_path: Path, responses: Any) -> None:
    file = tmp_path / "c.parquet"
    pq.write_table(pa.Table.from_pylist([{**RECORD, "responses": responses}]), file)
    assert read_candidates(str(file), "paragraphs", ANSWER, "<prm>") == [QUESTION]
    file.write_bytes(b"no parquet")
    with pytest.raises(TrainingError, match="a Parquet file at"):
        read_candidates(str(file), "paragraphs", ANSWER, "<prm>")


def test_given_answers_and_given_correctness_count_more_than_the_text(tmp_path: Path) -> None:
    (given,) = read(tmp_path / "c.jsonl", {**RECORD, "answers": [9, "3.0"]})
    assert (given.answers, given.correct) == (("9", "3.0"), (False, True))
    (judged,) = read(tmp_path / "c.jsonl", {**RECORD, "correct": [False, False]})
    assert judged.correct == (False, False)


def test_every_response_with_steps_is_a_solution_with_a_number_of_its_own(tmp_path: Path) -> None:
    questions = read(tmp_path / "c.jsonl", RECORD, "", {**RECORD, "responses": [" ", "So.\n\nYes."]})
    assert [each.line for each in questions] == [1, 3]
    assert questions[1].answers == ("", "Yes.")
    found = [(each.line, each.steps, each.judgements) for each in solutions_of(questions)]
    assert found == [
        (1, ("I count.", "Final answer: 3"), (0, 0)),
        (2, ("Final answer: 4",), (0,)),
        (4, ("So.", "Yes."), (0, 0)),
    ]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "truncated|malformed"),
        ('{"more": ' + "[" * 100_000 + "]" * 100_000 + "}", "recursion"),
        ({**RECORD, "question": " "}, "no question"),
        ({**RECORD, "question": "a <prm> b"}, "the marker <prm> in the question"),
        ({**RECORD, "answer": " "}, "no answer"),
        ({**RECORD, "responses": []}, "no responses"),
        ({**RECORD, "responses": [1]}, "Expected `str \\| array`"),
        ({**RECORD, "answers": ["3"]}, "2 responses but 1 answers"),
        ({**RECORD, "correct": [True] * 3}, "2 responses but 3 correct"),
        ({"question": "Why?"}, "missing required field"),
    ],
)
def test_a_malformed_record_is_named_by_its_line(record: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=message) as error:
        read(tmp_path / "c.jsonl", RECORD, record)
    assert f"in line 2 of {tmp_path / 'c.jsonl'}" in str(error.value)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="an empty file"):
        read(tmp_path / "c.jsonl", "")


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("4 + 1 = 5.\nFinal answer: 5", "5"),
        ("Final answer: 4\nWait.\nFinal answer: 5", "5"),
        ("**Final answer**: 5 cm", "5 cm"),
        ("The final answer is 12.", "12."),
        (r"So x = \boxed{3/4}, and we are done.", "3/4"),
        (r"Thus \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"So \boxed{7} is our final answer.", "7"),
        ("**Final answer:** -5", "-5"),
        ("Therefore 7 is the final answer.", "Therefore 7 is the final answer."),
        ("It is the left bar.\nSo: left\n", "So: left"),
        ("", ""),
    ],
)
def test_the_last_stated_answer_counts_or_else_the_last_line(solution: str, answer: str) -> None:
    assert final_answer(solution) == answer


def test_a_pattern_of_ones_own_finds_other_answers() -> None:
    assert final_answer("ANSWER=<7> Thanks.", r"ANSWER=<(\w+)>") == "7"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12", "12.0"), ("1,200", "1200"), (" A. ", "a"), ("(B)", "B"), ("$3/4$", "3/4"), ("**5**", "5"),
        (r"\boxed{9}", "9"), (r"$\boxed{7}$.", "7"), ("-0", "0"), (".5", "0.50"),
        ("two  cats", "Two cats"), ("-0.50", "-.5"),
    ],
)  # fmt: skip
def test_the_form_of_an_answer_does_not_matter(one: str, other: str) -> None:
    assert is_same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("12", "13"), ("12345678901", "12345678902"), ("1,2", "12"), ("left", "right"), ("", ""), ("5 cm", "5")],
)
def test_other_answers_are_different_and_none_is_never_right(one: str, other: str) -> None:
    assert not is_same(one, other)
