"""Metrics of step rewards against people's judgements, of one benchmark or of many resamples at once.

    solutions, rewards ──judged_steps──▶ ScoredSteps
    ScoredSteps, threshold ─sums_of─▶ Sums of each question ─resampled─▶ Sums of each resample ─▶ metrics
    ScoredSteps ─────────────────────────────── weights of the questions ─────────────────────▶ AUC

All metrics but AUC follow from sums over questions, so those of a thousand resamples are one product of
matrices. A metric is an array with one value per resample; NaN where it is undefined.

- ``macro_f1``: mean of the F1 of right steps and the F1 of wrong steps. A kind that is neither judged nor
  predicted counts as 0, as in the published protocol; of no steps at all, as of a source that a resample does
  not draw, it is undefined. Over several sources there are three kinds of mean:
  ``overall_f1``, of the sources' macro-F1 weighted by their steps (the BIS paper, §5.2);
  ``pooled_macro_f1``, of all steps as one source (VRPRM); and ``unweighted_f1``, of the sources alike.
- ``brier`` and ``calibration_error``: mean squared error of the rewards, and their mean distance from the
  share of right steps in `BINS` bins of equal width. Lower is better.
- ``first_error_accuracy``: share of solutions whose first wrong step is the first one below the threshold,
  or that have neither. ``processbench_f1`` is the harmonic mean of this share among solutions with a wrong
  step (``accuracy_on_wrong``) and among those without one (``accuracy_on_right``), as in ProcessBench.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ray_train.evaluation.benchmark import Solution

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]
Texts: TypeAlias = npt.NDArray[np.str_]
Rewards: TypeAlias = Sequence[Sequence[float]]  # by solution; trailing steps may have none
Measured = dict[str, dict[str, Floats]]  # by scope (ALL or a source) and metric: [resamples]
BINS = 15  # of the expected calibration error
LOWER_IS_BETTER = ("brier", "calibration_error")
ALL = "all sources"  # the scope of all together; "all" may be a source
_AT_ONCE = 4_000_000  # weights (resamples x steps) in memory at once


@dataclass(frozen=True)
class ScoredSteps:
    """The steps that have a reward and are judged right or wrong; each array has one entry per step.

    The steps of a solution follow one another, in their order.
    """

    rewards: Floats  # P(Yes), less the risk term if there is one
    correct: Bools  # judged right
    sources: Texts  # source of the benchmark
    questions: Texts  # `Solution.question_key`, so that both halves share no question
    solutions: Ints  # number of the solution: its line of the benchmark
    positions: Ints  # of the step in its solution, from 1; neutral steps count
    lengths: Ints  # steps of the solution, neutral ones included
    whole: Bools  # whether all judged steps of the solution have a reward

    def where(self, chosen: Bools) -> "ScoredSteps":
        """Return the steps for which ``chosen`` is true."""
        return ScoredSteps(*(getattr(self, column.name)[chosen] for column in fields(self)))

    def __len__(self) -> int:
        return len(self.rewards)


def judged_steps(solutions: "Sequence[Solution]", rewards: Rewards) -> ScoredSteps:
    """Return the steps that have a reward and are judged right or wrong; neutral steps (0) are left out.

    Args:
        solutions: The solutions of a benchmark.
        rewards: The rewards of each solution; trailing steps may have none.
    """
    rows = [
        (reward, judgement > 0, solution.source, solution.question_key, solution.line, position,
         len(solution.steps), not any(solution.judgements[len(scored) :]))
        for solution, scored in zip(solutions, rewards, strict=True)
        for position, (reward, judgement) in enumerate(zip(scored, solution.judgements, strict=False), 1)
        if judgement != 0
    ]  # fmt: skip
    kinds = (np.float64, np.bool_, np.str_, np.str_, np.int64, np.int64, np.int64, np.bool_)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(kinds)
    return ScoredSteps(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))


class Sums(NamedTuple):
    """What the metrics are computed from, each float64 ``[questions or resamples, sources, …]``."""

    confusion: Floats  # [.., 2, 2] steps by judgement (wrong, right) and prediction (wrong, right)
    located: Floats  # [.., 2, 2] solutions by: has a wrong step; its first wrong step, or none, was found
    squared: Floats  # [..] squared errors of the rewards
    bins: Floats  # [.., BINS, 3] steps, rewards and right steps by reward


def sums_of(steps: ScoredSteps, threshold: float | Floats, questions: Texts, sources: Texts) -> Sums:
    """Return the sums of each question.

    Args:
        steps: The steps to report.
        threshold: A step is predicted right if its reward is at or above this; one for all or one per step.
        questions: The questions, sorted; they include those of ``steps``.
        sources: The sources, sorted; they include those of ``steps``.
    """
    shape = (len(questions), len(sources))
    question, source = np.searchsorted(questions, steps.questions), np.searchsorted(sources, steps.sources)
    predicted = steps.rewards >= threshold
    sums = Sums(*(np.zeros((*shape, *more)) for more in ((2, 2), (2, 2), (), (BINS, 3))))
    np.add.at(sums.confusion, (question, source, steps.correct.astype(int), predicted.astype(int)), 1)
    np.add.at(sums.squared, (question, source), (steps.rewards - steps.correct) ** 2)
    number = np.clip((steps.rewards * BINS).astype(int), 0, BINS - 1)
    in_bin = np.stack([np.ones(len(steps)), steps.rewards, steps.correct], axis=1)
    np.add.at(sums.bins, (question, source, number), in_bin)
    first, wrong, found = _first_errors(steps, predicted)
    np.add.at(sums.located, (question[first], source[first], wrong.astype(int), found.astype(int)), 1)
    return sums


def _first_errors(steps: ScoredSteps, predicted: Bools) -> tuple[npt.NDArray[np.intp], Bools, Bools]:
    """Return of each solution scored as a whole its first row, whether it has an error, and if that is found.

    The first error is found if the predictions begin with as many right steps as the judgements.
    """
    rows = np.flatnonzero(steps.whole)
    starts = np.flatnonzero(np.diff(steps.solutions[rows], prepend=-1))
    if not len(rows):
        return rows, np.zeros(0, np.bool_), np.zeros(0, np.bool_)
    leading = []  # right steps before the first wrong one, by the judgements and by the predictions
    lengths = np.diff([*starts, len(rows)])
    for right in (steps.correct[rows], predicted[rows]):
        wrong = np.cumsum(~right)
        before: Ints = (wrong - ~right)[starts]  # wrong steps of all earlier solutions
        leading.append(np.add.reduceat((wrong == np.repeat(before, lengths)).astype(int), starts))
    return rows[starts], leading[0] < lengths, leading[0] == leading[1]


def measure(
    steps: ScoredSteps, threshold: float | Floats, weights: Floats, questions: Texts, sources: Texts
) -> Measured:
    """Return all metrics of all scopes, for each of several weightings of the questions.

    Args:
        steps: The steps to report.
        threshold: As in `sums_of`.
        weights: How often each resample draws each question, float64 ``[resamples, questions]``.
        questions: As in `sums_of`.
        sources: As in `sums_of`.
    """
    sums = sums_of(steps, threshold, questions, sources)
    drawn = Sums(*(np.tensordot(weights, part, axes=1) for part in sums))
    pooled = _of_sums(Sums(*(part.sum(1) for part in drawn)))
    of_sources, size = macro_f1(drawn.confusion), drawn.confusion.sum((-2, -1))
    overall = {
        "overall_f1": _ratio((of_sources * size).sum(1), size.sum(1)),
        "pooled_macro_f1": pooled.pop("macro_f1"),
        "unweighted_f1": _ratio((of_sources * (size > 0)).sum(1), (size > 0).sum(1)),
    }
    found: Measured = {ALL: {**overall, **pooled, "auc": areas(steps, weights, questions)}}
    for number, source in enumerate(sources.tolist()):
        of_source = _of_sums(Sums(*(part[:, number] for part in drawn)))
        part = steps.where(steps.sources == source)
        found[source] = {**of_source, "auc": areas(part, weights, questions)}
    return found


def _of_sums(sums: Sums) -> dict[str, Floats]:
    """Return the metrics that follow from sums without an axis of sources."""
    steps = sums.confusion.sum((-2, -1))
    f1 = np.where(steps[..., None] == 0, np.nan, f1_of_kinds(sums.confusion))
    found, solutions = sums.located[..., 1], sums.located.sum(-1)
    on_right, on_wrong = np.moveaxis(_ratio(found, solutions), -1, 0)
    size, rewards, right = np.moveaxis(sums.bins, -1, 0)
    return {
        "macro_f1": f1.mean(-1),
        "f1_right": f1[..., 1],
        "f1_wrong": f1[..., 0],
        "brier": _ratio(sums.squared, steps),
        "calibration_error": _ratio(np.abs(rewards - right).sum(-1), size.sum(-1)),
        "first_error_accuracy": _ratio(found.sum(-1), solutions.sum(-1)),
        "accuracy_on_wrong": on_wrong,
        "accuracy_on_right": on_right,
        "processbench_f1": np.where(
            on_wrong + on_right == 0, 0.0, _ratio(2 * on_wrong * on_right, on_wrong + on_right)
        ),
    }


def f1_of_kinds(confusion: Floats) -> Floats:
    """Return the F1 of wrong and of right steps, ``[.., 2]``, of counts ``[.., judgement, prediction]``."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    met = confusion.sum(-1) + confusion.sum(-2)
    return np.asarray(2 * hits / np.maximum(met, 1))


def macro_f1(confusion: Floats) -> Floats:
    """Return the mean of the F1 of wrong and of right steps of counts ``[.., judgement, prediction]``."""
    return np.asarray(f1_of_kinds(confusion).mean(-1))


def areas(steps: ScoredSteps, weights: Floats, questions: Texts) -> Floats:
    """Return the probability that a right step has a higher reward than a wrong one (ROC AUC).

    Args:
        steps: The steps to report.
        weights: As in `measure`.
        questions: As in `sums_of`.

    Returns:
        One value per resample; NaN where it has only one kind of step.
    """
    order = np.argsort(steps.rewards, kind="stable")
    rewards, correct = steps.rewards[order], steps.correct[order]
    question = np.searchsorted(questions, steps.questions[order])
    starts = np.flatnonzero(np.diff(rewards, prepend=-np.inf) > 0)
    some = max(1, _AT_ONCE // max(1, len(steps)))
    parts = [
        _areas(weights[first : first + some, question], starts, correct)
        for first in range(0, len(weights), some)
    ]
    return np.concatenate(parts)


def _areas(weights: Floats, starts: Ints, correct: Bools) -> Floats:
    """Return the areas of weights ``[resamples, steps]``; rewards are equal from each start to the next."""
    if not correct.any() or correct.all():
        return np.full(len(weights), np.nan)
    right, wrong = (np.add.reduceat(weights * kind, starts, axis=1) for kind in (correct, ~correct))
    below = np.cumsum(wrong, axis=1) - wrong / 2  # a pair of equal rewards counts half
    return _ratio((right * below).sum(1), right.sum(1) * wrong.sum(1))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Return ``part / whole``, NaN where ``whole`` is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(whole == 0, np.nan, part / whole))
