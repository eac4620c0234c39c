"""MC scores are success rates of continuations that were really sampled."""

from dataclasses import replace

import numpy as np
import pytest

from bisieve.synthetic.annotation import INCORRECT, Attempts, annotate, attempt, continue_from
from bisieve.synthetic.pictures import make_pictures, training_digits
from bisieve.synthetic.solver import RELATIVE_CHANCE, Solver, ask
from bisieve.synthetic.tasks import GRID_SUM, TASKS, Kind

K = 16
SOLVER = Solver(mistake_rate=0.15, correction_rate=0.1)


def attempts_at_one_question(n: int, solver: Solver, seed: int = 0) -> Attempts:
    rng = np.random.default_rng(seed)
    pictures = make_pictures(GRID_SUM.layout, training_digits(), 1, rng)
    pictures.difficulty[:] = 1
    return attempt(GRID_SUM, ask(GRID_SUM, pictures, np.zeros(n, int), np.zeros(n, int)), solver, rng)


@pytest.mark.parametrize("place", [1, 2, 3])
def test_counts_from_one_prefix_are_binomial_with_the_success_rate_of_the_continuations(place: int) -> None:
    attempts = attempts_at_one_question(1, SOLVER)
    prefix = attempts.positions[place]
    many = np.zeros(100_000, int)
    rate = continue_from(
        GRID_SUM,
        attempts.questions.take(many),
        prefix.state.take(many),
        prefix.steps_taken,
        SOLVER,
        np.random.default_rng(1),
    ).mean()
    again = np.zeros(4_000, int)
    same = replace(prefix, present=np.ones(len(again), bool), state=prefix.state.take(again))
    [counts] = annotate(
        Attempts(GRID_SUM, attempts.questions.take(again), [same]), K, SOLVER, np.random.default_rng(2)
    )
    variance = K * rate * (1 - rate)
    assert 0.1 < rate < 0.9
    assert counts.mean() == pytest.approx(K * rate, abs=5 * np.sqrt(variance / len(again)))
    assert counts.var() == pytest.approx(variance, rel=0.15)


def test_before_the_final_answer_the_success_rate_is_the_chance_to_copy_it_well() -> None:
    solver = Solver(mistake_rate=0.5, correction_rate=0.0)
    attempts = attempts_at_one_question(20_000, solver)
    before_final = next(position for position in attempts.positions if position.steps_taken == 4)
    counts = annotate(attempts, K, solver, np.random.default_rng(1))[attempts.positions.index(before_final)]
    right = before_final.correctness != INCORRECT
    expected = 1 - solver.mistake_rate * RELATIVE_CHANCE[Kind.COPY]
    assert (counts[right] / K).mean() == pytest.approx(expected, abs=0.01)


def test_after_the_final_answer_nothing_is_left_to_chance() -> None:
    attempts = attempts_at_one_question(500, SOLVER)
    final = annotate(attempts, K, SOLVER, np.random.default_rng(1))[-1]
    right = attempts.positions[-1].state.values["answer"] == attempts.questions.truth["answer"]
    assert final.tolist() == [K if hit else 0 for hit in right]


def test_a_wrong_prefix_without_mending_seldom_succeeds_and_with_mending_more_often() -> None:
    def success_after_a_wrong_first_step(correction_rate: float) -> float:
        solver = Solver(mistake_rate=0.05, correction_rate=correction_rate)
        attempts = attempts_at_one_question(3_000, solver)
        counts = annotate(attempts, K, solver, np.random.default_rng(1))
        return float((counts[1][attempts.positions[1].correctness == INCORRECT] / K).mean())

    assert success_after_a_wrong_first_step(0.0) < 0.05
    assert success_after_a_wrong_first_step(0.3) > 0.3


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_annotating_leaves_the_rollouts_as_they_are(task) -> None:
    rng = np.random.default_rng(0)
    pictures = make_pictures(task.layout, training_digits(), 30, rng)
    attempts = attempt(task, ask(task, pictures, np.arange(30), np.zeros(30, int)), SOLVER, rng)
    states = [position.state.take(np.arange(30)) for position in attempts.positions]
    annotate(attempts, K, SOLVER, rng)
    for position, before in zip(attempts.positions, states, strict=True):
        assert np.array_equal(position.state.flawed, before.flawed)
        assert position.state.values.keys() == before.values.keys()
        assert all(np.array_equal(position.state.values[name], before.values[name]) for name in before.values)
