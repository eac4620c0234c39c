"""Tables of scored steps for tests of metrics."""

from collections.abc import Sequence

import numpy as np

from ray_train.evaluation.bootstrap import once
from ray_train.evaluation.metrics import ScoredSteps, measure


def scored(
    rewards: Sequence[float], correct: Sequence[int | bool], sources: Sequence[str],
    questions: Sequence[str] | None = None, solutions: Sequence[int] | None = None,
) -> ScoredSteps:  # fmt: skip
    """The table of steps, each a solution of a question of its own where nothing else is given."""
    count = len(rewards)
    number = np.arange(count) if solutions is None else np.array(solutions)
    starts = np.searchsorted(number, number)
    return ScoredSteps(
        np.array(rewards, float), np.array(correct, bool), np.array(list(sources), str),
        np.array(questions if questions is not None else number.astype(str)), number,
        np.arange(count) - starts + 1, np.searchsorted(number, number, side="right") - starts,
        np.ones(count, bool),
    )  # fmt: skip


def some_steps(questions: int, noise: float = 0.3, seed: int = 0, per_question: int = 6) -> ScoredSteps:
    """Two solutions of three steps a question, of three sources, with many equal rewards."""
    rng = np.random.default_rng(seed)
    question = np.repeat(np.arange(questions), per_question)
    correct = rng.random(len(question)) < 0.7
    rewards = np.round(np.clip(correct * 0.6 + 0.2 + rng.normal(0, noise, len(question)), 0, 1), 1)
    return scored(
        rewards.tolist(), correct.tolist(), np.char.mod("s%d", question % 3).tolist(),
        np.char.mod("q%d", question).tolist(), (np.arange(len(question)) // 3).tolist(),
    )  # fmt: skip


def metrics_of(steps: ScoredSteps, threshold: float = 0.5) -> dict[str, dict[str, float]]:
    """The metrics of the steps by scope and name."""
    questions, sources = np.unique(steps.questions), np.unique(steps.sources)
    found = measure(steps, threshold, once(len(questions)), questions, sources)
    return {scope: {name: float(value[0]) for name, value in of.items()} for scope, of in found.items()}
