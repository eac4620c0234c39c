"""Metrics of step rewards as VisualProcessBench reports them (BIS paper §5.2), with lower bounds.

`report` computes them all. Neutral steps are removed before. The threshold is chosen on one half of the
questions, and all metrics are computed on the other half: a threshold tuned on the reported steps would
flatter the model. The paper's code does tune it on these, and so does ``--threshold test``, for comparisons.

Lower bounds come from a bootstrap over questions, drawn with replacement, each with all steps of all its
solutions; the threshold is kept. Many resamples are computed at once, each as a weight per question.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash
from sklearn.metrics import f1_score, roc_auc_score

from bisieve._text import Report, Table, percent
from bisieve.errors import TrainingError
from ray_train.choices import CALIBRATION, TEST

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

_CANDIDATES = 100  # quantile steps of the rewards of the calibration half, whose ends are tried as thresholds
_MOST_SWEPT = 1000  # of n rewards the paper's code tries every (n // 1000)-th as threshold


RESAMPLES = 2000
_AT_ONCE = 4_000_000  # weights (resamples x steps) in memory at once

Weights = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ScoredSteps:
    """The scored and judged steps of a benchmark; each array has one entry per step."""

    rewards: Floats  # P(Yes), less the risk term if there is one
    correct: Bools  # judged right
    sources: npt.NDArray[np.str_]  # source of the benchmark
    questions: npt.NDArray[np.str_]  # `Solution.question_key`, so that both halves share no question

    def where(self, chosen: Bools) -> "ScoredSteps":
        """Return the steps for which ``chosen`` is true."""
        return ScoredSteps(
            self.rewards[chosen], self.correct[chosen], self.sources[chosen], self.questions[chosen]
        )

    def __len__(self) -> int:
        return len(self.rewards)


def macro_f1(correct: Bools, predicted: Bools) -> float:
    """Return the mean of the F1 of right steps and the F1 of wrong steps.

    As in the published protocol, the F1 of a kind of step that is neither judged nor predicted counts as 0.
    So steps that are all right, and all predicted right, give 0.5; a source of such steps lowers the overall
    score.
    """
    return float(f1_score(correct, predicted, labels=[False, True], average="macro", zero_division=0.0))


def overall(steps: ScoredSteps, threshold: float) -> tuple[float, dict[str, dict[str, float]]]:
    """Return the step-weighted mean of the sources' macro-F1, the paper's main metric, and each source's.

    Args:
        steps: The steps to report.
        threshold: A step is predicted right if its reward is at or above this.

    Returns:
        The mean, and by source ``macro_f1``, ``steps`` and ``correct_share``.
    """
    sources = {}
    for source in sorted(set(steps.sources.tolist())):
        part = steps.where(steps.sources == source)
        f1 = macro_f1(part.correct, part.rewards >= threshold)
        sources[source] = {"macro_f1": f1, "steps": len(part), "correct_share": float(part.correct.mean())}
    mean = sum(entry["macro_f1"] * entry["steps"] for entry in sources.values()) / max(1, len(steps))
    return mean, sources


def choose_threshold(steps: ScoredSteps) -> float:
    """Return the threshold with the best overall score on ``steps``, the lowest if several are equal.

    The candidates are 101 quantiles of the rewards.
    """
    shares = np.linspace(0, 1, _CANDIDATES + 1)
    return _best(steps, np.unique(np.quantile(steps.rewards, shares, method="nearest")))


def swept_threshold(steps: ScoredSteps) -> float:
    """Return the threshold that the paper's code would choose on ``steps``.

    The candidates are the distinct rewards, rounded to four digits; from 2000 of these on only every n-th.
    """
    candidates = sorted({round(reward, 4) for reward in steps.rewards.tolist()})
    return _best(steps, np.array(candidates[:: max(1, len(candidates) // _MOST_SWEPT)]))


def _best(steps: ScoredSteps, candidates: Floats) -> float:
    """Return the first of the ascending ``candidates`` with the best overall score."""
    scores = np.zeros(len(candidates))
    for source in sorted(set(steps.sources.tolist())):
        part = steps.where(steps.sources == source)
        scores += _macro_f1_at(candidates, part) * len(part)
    return float(candidates[scores.argmax()])


def _macro_f1_at(thresholds: Floats, steps: ScoredSteps) -> Floats:
    """Return `macro_f1` at each of ``thresholds``, float64 ``[thresholds]``."""
    right, wrong = (np.sort(steps.rewards[kind]) for kind in (steps.correct, ~steps.correct))
    # Steps below each threshold: right ones that are missed, wrong ones that are found.
    missed, found = np.searchsorted(right, thresholds), np.searchsorted(wrong, thresholds)
    mistaken = missed + len(wrong) - found
    hits = np.stack([len(right) - missed, found])
    return np.asarray((2 * hits / np.maximum(2 * hits + mistaken, 1)).mean(0))


def area_under_curve(steps: ScoredSteps) -> float | None:
    """Return the probability that a right step has a higher reward than a wrong one (ROC AUC).

    Returns:
        None if all steps are right or all are wrong.
    """
    if steps.correct.all() or not steps.correct.any():
        return None
    return float(roc_auc_score(steps.correct, steps.rewards))


def in_calibration_half(questions: Sequence[str], seed: int) -> Bools:
    """Return which questions are in the half on which the threshold is chosen, bool ``[questions]``.

    A hash of key and seed decides, so that the other questions of a benchmark do not matter.
    """
    hashes = [xxhash.xxh3_64_intdigest(f"{seed}\n{question}".encode()) for question in questions]
    return np.array([value % 2 == 0 for value in hashes], dtype=np.bool_)


def report(
    steps: ScoredSteps, seed: int, confidence: float = 0.95, threshold_on: str = CALIBRATION
) -> dict[str, Any]:
    """Choose the threshold and compute all metrics of an evaluation.

    Args:
        steps: All scored and judged steps.
        seed: Seed of the split into halves and of the resamples.
        confidence: Confidence of the one-sided lower bounds, in (0, 1).
        threshold_on: One of `choices.THRESHOLDS`. With ``test`` all steps are reported, and the threshold is
            chosen on them.

    Returns:
        The metrics by name, for ``metrics.json``.

    Raises:
        TrainingError: A reward is not finite, or there is no step to choose the threshold on or to report.
    """
    if broken := int((~np.isfinite(steps.rewards)).sum()):
        raise TrainingError(
            "a number as the reward of every step", f"{broken} of {len(steps)} that are none (nan or inf)",
            "evaluate another checkpoint: the weights of this model are broken",
        )  # fmt: skip
    half = in_calibration_half(steps.questions.tolist(), seed)
    on_test = threshold_on == TEST
    calibration, reported = (steps, steps) if on_test else (steps.where(half), steps.where(~half))
    if not len(calibration) or not len(reported):
        raise TrainingError(
            "judged steps of several questions in the benchmark, for two halves",
            f"{len(calibration)} and {len(reported)} steps", "give a larger benchmark, or another --seed",
        )  # fmt: skip
    threshold = (swept_threshold if on_test else choose_threshold)(calibration)
    mean, sources = overall(reported, threshold)
    return {
        "threshold": threshold,
        "threshold_on": threshold_on,
        "seed": seed,
        "steps": len(reported),
        "calibration_steps": 0 if on_test else len(calibration),
        "overall_f1": mean,
        "pooled_macro_f1": macro_f1(reported.correct, reported.rewards >= threshold),
        "auc": area_under_curve(reported),
        "confidence": confidence,
        "lower_bounds": lower_bounds(reported, threshold, seed, confidence),
        "sources": sources,
    }


def table(numbers: dict[str, Any]) -> Report:
    """Format the result of `report` for people: a table of the sources, other metrics, lower bounds."""
    rows = [
        (name, f"{entry['steps']:,}", f"{entry['correct_share']:.1%}", f"{entry['macro_f1']:.4f}")
        for name, entry in numbers["sources"].items()
    ]
    rows.append(("all (step-weighted)", f"{numbers['steps']:,}", "", f"{numbers['overall_f1']:.4f}"))
    auc = "none (one kind of step)" if numbers["auc"] is None else f"{numbers['auc']:.4f}"
    others = f"{numbers['calibration_steps']:,} other steps"
    chosen = "these very steps" if numbers["threshold_on"] == TEST else others
    bounds = [
        f"{title} {'none' if bound is None else f'{bound:.4f}'}"
        for name, title in (
            ("overall_f1", "macro-F1"),
            ("pooled_macro_f1", "pooled macro-F1"),
            ("auc", "AUC"),
        )
        for bound in [numbers["lower_bounds"][name]]
    ]
    return Report(
        Table(("source", "steps", "right", "macro-F1"), rows),
        f"pooled macro-F1 {numbers['pooled_macro_f1']:.4f}, AUC {auc}; threshold {numbers['threshold']:.4f}, "
        f"chosen on {chosen}",
        f"lower bounds ({percent(numbers['confidence'])} confidence): {', '.join(bounds)}",
    )


def lower_bounds(
    steps: ScoredSteps, threshold: float, seed: int, confidence: float
) -> dict[str, float | None]:
    """Return one-sided lower confidence bounds of the metrics, from a bootstrap over questions.

    Args:
        steps: The steps that are reported.
        threshold: A step is predicted right if its reward is at or above this.
        seed: Seed of the resamples.
        confidence: In (0, 1).

    Returns:
        The bound by metric. None if the metric is undefined in at least half of the resamples, as AUC is
        where one kind of step is rare.
    """
    names, question = np.unique(steps.questions, return_inverse=True)
    counts = _confusions(steps, question, len(names), threshold)
    order = np.argsort(steps.rewards, kind="stable")
    drawn: dict[str, list[Floats]] = {"overall_f1": [], "pooled_macro_f1": [], "auc": []}
    for weights in _draws(len(names), len(steps), seed):
        confusions = np.tensordot(weights, counts, axes=1)
        drawn["overall_f1"].append(_overall(confusions))
        drawn["pooled_macro_f1"].append(_macro_f1(confusions.sum(1)))
        of_steps = weights[:, question[order]]
        drawn["auc"].append(_areas(of_steps, steps.rewards[order], steps.correct[order]))
    return {name: _quantile(np.concatenate(parts), 1 - confidence) for name, parts in drawn.items()}


def _draws(questions: int, steps: int, seed: int) -> Iterator[Weights]:
    """Yield how often each resample draws each question, int64 ``[some of the resamples, questions]``."""
    rng, left = np.random.default_rng(seed), RESAMPLES
    while left:
        some = min(left, max(1, _AT_ONCE // steps))
        yield rng.multinomial(questions, np.full(questions, 1 / questions), size=some)
        left -= some


def _confusions(
    steps: ScoredSteps, question: npt.NDArray[np.intp], questions: int, threshold: float
) -> Weights:
    """Count steps by question, source, judgement and prediction, int64 ``[questions, sources, 2, 2]``."""
    sources, source = np.unique(steps.sources, return_inverse=True)
    counts = np.zeros((questions, len(sources), 2, 2), np.int64)
    predicted = steps.rewards >= threshold
    np.add.at(counts, (question, source, steps.correct.astype(int), predicted.astype(int)), 1)
    return counts


def _macro_f1(confusions: Weights) -> Floats:
    """Return `macro_f1` of counts ``[..., judgement, prediction]``."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    met = confusions.sum(-1) + confusions.sum(-2)
    return np.asarray((2 * hits / np.maximum(met, 1)).mean(-1))


def _overall(confusions: Weights) -> Floats:
    """Return the mean of `overall` of counts ``[resamples, sources, judgement, prediction]``."""
    of_source = confusions.sum((-2, -1))
    return np.asarray((_macro_f1(confusions) * of_source).sum(-1) / of_source.sum(-1))


def _areas(weights: Weights, rewards: Floats, correct: Bools) -> Floats:
    """Return `area_under_curve` of each resample; NaN where one kind of step is missing.

    Args:
        weights: How often each step is drawn, int64 ``[resamples, steps]``.
        rewards: Of the steps, ascending.
        correct: Judgement of the steps.
    """
    starts = np.flatnonzero(np.concatenate([[True], np.diff(rewards) > 0]))
    right, wrong = (np.add.reduceat(weights * kind, starts, axis=1) for kind in (correct, ~correct))
    below = np.cumsum(wrong, axis=1) - wrong / 2  # a pair of equal rewards counts half
    pairs = right.sum(1) * wrong.sum(1)
    with np.errstate(invalid="ignore"):
        return np.asarray((right * below).sum(1) / pairs)


def _quantile(values: Floats, share: float) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, share)) if 2 * len(known) > len(values) else None
