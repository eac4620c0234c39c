"""The solver: what it says, how it goes wrong, and what it knows to be true."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisieve.synthetic.annotation import CORRECT, INCORRECT, NEUTRAL, Attempts, attempt
from bisieve.synthetic.pictures import make_pictures, training_digits
from bisieve.synthetic.solver import Questions, Solver, ask, reading_orders
from bisieve.synthetic.tasks import TASKS, Task

CARELESS = Solver(mistake_rate=0.3, correction_rate=0.0)


def some_questions(task: Task, n: int, seed: int = 0, any_order: bool = False) -> Questions:
    rng = np.random.default_rng(seed)
    pictures = make_pictures(task.layout, training_digits(), n, rng)
    variants = rng.integers(len(task.variants), size=n)
    return ask(task, pictures, np.arange(n), variants, reading_orders(task, n, any_order, rng))


def some_attempts(task: Task, solver: Solver, n: int = 200, seed: int = 0) -> Attempts:
    return attempt(task, some_questions(task, n, seed), solver, np.random.default_rng(seed + 1))


def plan_positions(attempts: Attempts) -> list:
    return [position for position in attempts.positions if (position.correctness != NEUTRAL).any()]


def test_the_shares_of_the_sources_are_very_unequal_and_sum_to_one() -> None:
    shares = [task.share for task in TASKS]
    assert sum(shares) == pytest.approx(1)
    assert max(shares) == 0.5
    assert min(shares) == 0.02


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_solver_that_makes_no_mistakes_is_right_in_every_step(task: Task) -> None:
    attempts = some_attempts(task, Solver(mistake_rate=0.0))
    for position in plan_positions(attempts):
        assert (position.correctness == CORRECT).all()
    answers = attempts.questions.truth["answer"].tolist()
    assert attempts.positions[-1].texts == [f"Final answer: {answer}" for answer in answers]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_in_whichever_order_a_picture_is_read_each_digit_keeps_its_place_and_the_answer_its_value(
    task: Task,
) -> None:
    usual, other = some_questions(task, 300), some_questions(task, 300, any_order=True)
    assert set(other.order.tolist()) == set(range(len(task.orders)))
    assert usual.truth["answer"].tolist() == other.truth["answer"].tolist()
    words = task.words(other.variant.tolist(), other.order.tolist())
    for row in range(300):
        first = other.order[row]
        for place, cell in enumerate(task.orders[first]):
            assert other.given[f"seen{place}"][row] == usual.given[f"seen{cell}"][row]
            named = task.places[cell].format(word=words["word"][row])
            assert words[f"place{place}"][row] == named


def test_the_right_answer_follows_from_the_digits() -> None:
    seen = {task.name: some_questions(task, 50) for task in TASKS}
    digits = {
        name: np.stack([q.given[f"seen{i}"] for i in range(len(q.ambiguity))]) for name, q in seen.items()
    }
    expected = {
        "grid_sum": digits["grid_sum"].sum(0),
        "row_total": digits["row_total"].sum(0),
        "row_difference": abs(digits["row_difference"][:2].sum(0) - digits["row_difference"][2:].sum(0)),
        "count_above": (digits["count_above"] > seen["count_above"].given["limit"]).sum(0),
        "bar_range": np.ptp(digits["bar_range"], axis=0),
        "number_sum": np.array([10, 1, 10, 1]) @ digits["number_sum"],
    }
    assert expected.keys() == seen.keys()
    for name, answers in expected.items():
        assert seen[name].truth["answer"].tolist() == answers.tolist()


@given(st.sampled_from(TASKS), st.integers(0, 2**32), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_step_is_true_exactly_when_nothing_believed_so_far_differs_from_the_right_solution(
    task: Task, seed: int, mistake_rate: float, correction_rate: float
) -> None:
    attempts = some_attempts(task, Solver(mistake_rate, correction_rate), n=40, seed=seed)
    for position in plan_positions(attempts):
        truth = attempts.questions.truth
        stated = [name for name in position.state.values if name in truth]
        as_in_truth = np.all([position.state.values[name] == truth[name] for name in stated], axis=0)
        assert np.array_equal(position.correctness == CORRECT, as_in_truth)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_without_mending_a_wrong_step_is_followed_by_wrong_steps_only(task: Task) -> None:
    flags = np.stack([p.correctness for p in plan_positions(some_attempts(task, CARELESS))])
    assert (np.diff(flags, axis=0) <= 0).all()
    assert (flags == INCORRECT).any()


def test_some_wrong_rollouts_still_reach_the_right_answer() -> None:
    attempts = some_attempts(TASKS[0], CARELESS, n=2_000)
    last = attempts.positions[-1]
    right = last.state.values["answer"] == attempts.questions.truth["answer"]
    assert 0 < (right & (last.correctness == INCORRECT)).sum() < 100


def test_a_mend_says_so_and_restates_the_first_wrong_step_as_it_should_have_been() -> None:
    task = TASKS[0]
    attempts = some_attempts(task, Solver(mistake_rate=0.3, correction_rate=1.0))
    first, second = plan_positions(attempts)[:2]
    wrong = np.flatnonzero(first.correctness == INCORRECT)
    assert len(wrong) > 5
    for row, text in enumerate(second.texts):
        restated = f"Wait, that was wrong. The top left digit is {attempts.questions.given['seen0'][row]}. "
        assert text.startswith(restated) == (row in wrong)


def test_the_final_answer_is_never_mended() -> None:
    for task in TASKS:
        attempts = some_attempts(task, Solver(mistake_rate=0.3, correction_rate=1.0))
        assert all(text.startswith("Final answer: ") for text in attempts.positions[-1].texts)


def test_hard_questions_bring_more_mistakes_than_easy_ones() -> None:
    attempts = some_attempts(TASKS[0], Solver(mistake_rate=0.1), n=2_000)
    order = np.argsort(attempts.questions.difficulty)
    wrong = (attempts.positions[-1].correctness == INCORRECT)[order]
    assert wrong[:1_000].mean() < 0.1 < 0.3 < wrong[-500:].mean()
