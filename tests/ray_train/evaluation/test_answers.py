"""Final answers, and which are the same."""

import pytest

from ray_train.evaluation.answers import final_answer, is_same


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
