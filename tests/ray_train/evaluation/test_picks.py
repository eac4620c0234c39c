"""Picks by step rewards, and their accuracy, worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from ray_train.evaluation.best_of import by_question, measured_picks, pick_lines
from ray_train.evaluation.candidates import Question
from ray_train.evaluation.picks import accuracies, majority, of_fewest_steps, pick, scores_of, table

REWARDS = [[0.9, 0.2, 0.7], [0.5, 0.6], [], [0.99, 0.1]]


def question(number: int, correct: list[int], answers: list[str] | None = None) -> Question:
    responses = (("a",),) * len(correct)
    given = answers or [str(n) for n in range(len(correct))]
    return Question(
        number, ("a.png",), f"Why {number}?", "3", "ab"[number % 2], responses, tuple(given),
        tuple(map(bool, correct)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("aggregate", "scores", "picked"),
    [
        ("mean", [0.6, 0.55, None, 0.545], 0),
        ("min", [0.2, 0.5, None, 0.1], 1),
        ("last", [0.7, 0.6, None, 0.1], 0),
        ("product", [0.126, 0.3, None, 0.099], 1),
        ("max", [0.9, 0.6, None, 0.99], 3),
    ],
)
def test_a_score_is_made_of_the_rewards_and_the_best_is_picked(
    aggregate: str, scores: list[float | None], picked: int
) -> None:
    assert scores_of(REWARDS, aggregate) == pytest.approx(scores)
    assert pick(scores) == picked


def test_the_first_of_equal_scores_and_of_none_is_picked() -> None:
    assert pick([0.2, 0.7, 0.7]) == 1
    assert pick([None, None]) == 0
    assert pick([None, 0.0]) == 1


def test_the_majority_is_the_most_frequent_answer_in_any_form() -> None:
    assert majority(["4", "5", "5.0", "4", "5"]) == 1
    assert majority(["4", "5"]) == 0
    assert majority(["", "", "5"]) == 2
    assert majority(["", ""]) == 0


def test_accuracies_of_two_questions() -> None:
    questions = [question(1, [0, 1, 0, 0], ["1", "3", "1", "2"]), question(2, [1, 0])]
    found = accuracies(questions, [REWARDS, [[0.4], [0.6]]])
    assert {name: values.tolist() for name, values in found.items()} == {
        "pass@1": [0.25, 0.5], "majority": [0.0, 1.0], "oracle": [1.0, 1.0], "mean": [0.0, 0.0],
        "min": [1.0, 0.0], "last": [0.0, 0.0], "product": [1.0, 0.0], "max": [0.0, 0.0],
        "fewest steps": [0.25, 0.5],
    }  # fmt: skip


def test_the_pick_by_the_number_of_steps_is_a_random_one_of_those_with_fewest() -> None:
    assert of_fewest_steps([3, 2, 2, 4], [False, True, False, True]) == 0.5
    assert of_fewest_steps([0, 5, 7], [True, False, True]) == 0.0, "an empty response is none"
    assert of_fewest_steps([0, 0], [True, False]) == 0.5


def test_a_model_that_picks_by_the_number_of_steps_alone_is_said_to_be_no_better() -> None:
    """The right responses are the short ones: it is far above chance, but knows no more than the length."""
    rng = np.random.default_rng(0)
    questions, rewards = [], []
    for number in range(100):
        right = [True, *(rng.random(7) < 0.3).tolist()]
        responses = tuple(("a",) * (1 if each else 2) for each in right)
        questions.append(replace(question(number, right), responses=responses))
        rewards.append([[1 - 0.1 * place for place in range(len(steps))] for steps in responses])
    numbers = {"aggregate": "mean", "confidence": 0.95, **measured_picks(questions, rewards, 0, 0.95)}
    chosen = numbers["methods"]["mean"]
    assert chosen["above_pass@1"]["interval"][0] > 0.4
    assert chosen["above_fewest_steps"]["difference"] == 0
    shown = table(numbers)
    assert "this model does not pick better by mean than the number of steps does" in shown
    assert max(map(len, shown.splitlines())) <= 100


def noisy(skill: float) -> dict[str, object]:
    rng = np.random.default_rng(0)
    questions = [question(n, rng.integers(0, 2, 8).tolist()) for n in range(200)]
    rewards = [
        [[0.5 + skill * right + 0.01 * float(rng.normal())] for right in each.correct] for each in questions
    ]
    return {"aggregate": "mean", "confidence": 0.95, **measured_picks(questions, rewards, 0, 0.95)}


def test_a_model_that_knows_right_responses_is_as_good_as_the_oracle() -> None:
    numbers = noisy(0.3)
    methods = numbers["methods"]
    assert methods["mean"]["accuracy"] == methods["oracle"]["accuracy"] > 0.98
    assert methods["pass@1"]["accuracy"] == pytest.approx(0.5, abs=0.05)
    above = methods["mean"]["above_pass@1"]
    assert above["difference"] == methods["mean"]["accuracy"] - methods["pass@1"]["accuracy"]
    low, high = above["interval"]
    assert 0 < low < above["difference"] < high
    of_sources = [entry["methods"]["mean"]["accuracy"] for entry in numbers["sources"].values()]
    assert np.mean(of_sources) == pytest.approx(methods["mean"]["accuracy"])
    shown = table(numbers)
    assert "best of 8 by mean" in shown
    assert "does not pick better" not in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_a_model_that_knows_nothing_is_said_to_be_no_better_than_chance() -> None:
    numbers = noisy(0.0)
    low, high = numbers["methods"]["mean"]["above_pass@1"]["interval"]
    assert low < 0 < high
    assert "does not pick better than chance by mean" in table(numbers)


@pytest.mark.parametrize(
    ("right", "said"),
    [
        ([[0, 0], [0, 0]], "nothing to pick: no response is right; if some are, see --answer-pattern"),
        ([[1], [0]], "nothing to pick: each question has one response"),
        ([[1, 1], [0, 0]], "nothing to pick: the responses to each question are all right or all wrong"),
    ],
)
def test_where_nothing_can_be_picked_the_model_is_not_blamed(right: list[list[int]], said: str) -> None:
    questions = [question(n, of_question) for n, of_question in enumerate(right)]
    rewards = [[[0.5]] * len(of_question) for of_question in right]
    shown = table({"aggregate": "mean", "confidence": 0.95, **measured_picks(questions, rewards, 0, 0.95)})
    assert said in shown
    assert "does not pick better" not in shown


def test_an_interval_of_accuracy_is_that_of_a_share() -> None:
    """Of 200 questions of which half is right the standard error is √(0.5 · 0.5 / 200)."""
    questions = [question(n, [n % 2]) for n in range(200)]
    low, high = measured_picks(questions, [[[0.5]]] * 200, 0, 0.95)["methods"]["mean"]["interval"]
    error = (0.25 / 200) ** 0.5
    assert (low, high) == pytest.approx((0.5 - 1.96 * error, 0.5 + 1.96 * error), abs=0.01)


def test_rewards_return_to_their_responses_and_empty_responses_have_none() -> None:
    one = Question(1, (), "Why?", "3", "all", (("a",), (), ("b", "c")), ("3", "", "4"), (True, False, False))
    rewards = by_question([one, one], [[0.1], [0.2, 0.3], [0.4], [0.5, 0.6]])
    assert rewards == [[[0.1], [], [0.2, 0.3]], [[0.4], [], [0.5, 0.6]]]
    line = next(pick_lines([one], rewards, "last"))
    assert (line["pick"], line["answer"]) == (2, "3")
    assert line["responses"][2] == {
        "steps": ("b", "c"), "rewards": [0.2, 0.3], "answer": "4", "correct": False,
        "scores": {"mean": 0.25, "min": 0.2, "last": 0.3, "product": pytest.approx(0.06), "max": 0.3},
    }  # fmt: skip
    assert line["responses"][1]["scores"]["mean"] is None
