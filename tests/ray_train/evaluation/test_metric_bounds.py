"""Lower bounds, against the same numbers of questions that were really drawn."""

import numpy as np
import pytest

from ray_train.evaluation import metrics
from ray_train.evaluation.metrics import ScoredSteps, area_under_curve, lower_bounds, macro_f1, overall

SEED, THRESHOLD = 7, 0.5


def some_steps(questions: int, noise: float = 0.3) -> ScoredSteps:
    """Six steps a question, of three sources, with many equal rewards."""
    rng = np.random.default_rng(0)
    question = np.repeat(np.arange(questions), 6)
    correct = rng.random(len(question)) < 0.7
    rewards = np.round(np.clip(correct * 0.6 + 0.2 + rng.normal(0, noise, len(question)), 0, 1), 1)
    return ScoredSteps(rewards, correct, np.char.mod("s%d", question % 3), np.char.mod("q%d", question))


def drawn_one_by_one(steps: ScoredSteps, draws: int) -> dict[str, list[float]]:
    names = np.unique(steps.questions)
    rng = np.random.default_rng(SEED)
    found: dict[str, list[float]] = {"overall_f1": [], "pooled_macro_f1": [], "auc": []}
    for times in rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws):
        where = np.repeat(np.arange(len(steps)), times[np.searchsorted(names, steps.questions)])
        drawn = ScoredSteps(
            steps.rewards[where], steps.correct[where], steps.sources[where], steps.questions[where]
        )
        found["overall_f1"].append(overall(drawn, THRESHOLD)[0])
        found["pooled_macro_f1"].append(macro_f1(drawn.correct, drawn.rewards >= THRESHOLD))
        area = area_under_curve(drawn)
        found["auc"].append(np.nan if area is None else area)
    return found


@pytest.mark.parametrize("at_once", [1, 1000, 10**6])
def test_a_bound_is_the_quantile_of_the_metric_over_drawn_questions(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(metrics, "RESAMPLES", 60)
    monkeypatch.setattr(metrics, "_AT_ONCE", at_once)
    steps = some_steps(25)
    expected = {name: np.quantile(values, 0.1) for name, values in drawn_one_by_one(steps, 60).items()}
    assert lower_bounds(steps, THRESHOLD, SEED, 0.9) == pytest.approx(expected)


def test_more_confidence_or_fewer_questions_make_a_lower_bound() -> None:
    many, few = some_steps(200), some_steps(20)
    value = overall(many, THRESHOLD)[0]
    at = {c: lower_bounds(many, THRESHOLD, SEED, c)["overall_f1"] for c in (0.5, 0.95, 0.99)}
    assert at[0.99] < at[0.95] < at[0.5] == pytest.approx(value, abs=0.01)
    gap = overall(few, THRESHOLD)[0] - lower_bounds(few, THRESHOLD, SEED, 0.95)["overall_f1"]
    assert gap > 2 * (value - at[0.95]) > 0


def test_steps_of_a_question_are_drawn_together() -> None:
    """Copies of a question's steps tell nothing new: the bound does not rise with them."""
    steps = some_steps(30)
    twice = ScoredSteps(*(np.concatenate([part, part]) for part in vars(steps).values()))
    assert lower_bounds(twice, THRESHOLD, SEED, 0.95) == pytest.approx(
        lower_bounds(steps, THRESHOLD, SEED, 0.95)
    )


def test_auc_has_no_bound_where_a_kind_of_step_is_missing_from_most_draws() -> None:
    steps = some_steps(30)
    first = np.arange(len(steps)) == 0
    one_wrong = ScoredSteps(steps.rewards, ~first, steps.sources, steps.questions)
    all_right = ScoredSteps(steps.rewards, first | True, steps.sources, steps.questions)
    assert lower_bounds(one_wrong, THRESHOLD, SEED, 0.95)["auc"] is not None  # in 1 − 1/e of the draws
    found = lower_bounds(all_right, THRESHOLD, SEED, 0.95)
    assert found["auc"] is None
    assert found["overall_f1"] is not None
