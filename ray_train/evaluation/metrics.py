"""Metrics of step rewards as VisualProcessBench reports them (paper §1.2), with lower bounds.

Neutral steps are never seen here.  The threshold is chosen on one half of the questions and everything
is reported on the other: a threshold tuned on the reported steps would flatter the model.  The paper's code
does the latter, and so does ``--threshold test``, to compare with it.

Questions are drawn with replacement, each with all steps of all its solutions; the threshold stays.  All
resamples are counted at once: a draw is a weight of every question.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash
from sklearn.metrics import f1_score, roc_auc_score

from bisieve.errors import TrainingError
from ray_train.choices import CALIBRATION, TEST

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

_CANDIDATES = 100  # thresholds tried on the calibration half
_MOST_SWEPT = 1000  # from twice as many thresholds on, the paper's code tries each second, third, … alone


RESAMPLES = 2000
_AT_ONCE = 4_000_000  # weights of steps in memory

Weights = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ScoredSteps:
    """The judged steps of a benchmark, one entry a step in every array."""

    rewards: Floats  # P(Yes)
    correct: Bools  # the human's judgement
    sources: npt.NDArray[np.str_]  # benchmark source
    questions: npt.NDArray[np.str_]  # names the question, so that one never lies in both halves

    def where(self, chosen: Bools) -> "ScoredSteps":
        return ScoredSteps(
            self.rewards[chosen], self.correct[chosen], self.sources[chosen], self.questions[chosen]
        )

    def __len__(self) -> int:
        return len(self.rewards)


def macro_f1(correct: Bools, predicted: Bools) -> float:
    """The mean of the F1 of right steps and the F1 of wrong steps.

    As in the published protocol a kind of step that is never met counts as 0, so steps that are all right,
    and all found to be, give 0.5: a source of such steps pulls the overall score down.
    """
    return float(f1_score(correct, predicted, labels=[False, True], average="macro", zero_division=0.0))


def overall(steps: ScoredSteps, threshold: float) -> tuple[float, dict[str, dict[str, float]]]:
    """The step-weighted mean of the sources' macro-F1 (the paper's headline number), and each source's."""
    sources = {}
    for source in sorted(set(steps.sources.tolist())):
        part = steps.where(steps.sources == source)
        f1 = macro_f1(part.correct, part.rewards >= threshold)
        sources[source] = {"macro_f1": f1, "steps": len(part), "correct_share": float(part.correct.mean())}
    mean = sum(entry["macro_f1"] * entry["steps"] for entry in sources.values()) / max(1, len(steps))
    return mean, sources


def choose_threshold(steps: ScoredSteps) -> float:
    """The threshold with the best overall score; the lowest of equals.  A step is right at or above it."""
    shares = np.linspace(0, 1, _CANDIDATES + 1)
    return _best(steps, np.unique(np.quantile(steps.rewards, shares, method="nearest")))


def swept_threshold(steps: ScoredSteps) -> float:
    """Return the threshold that the paper's code chooses: the best for ``steps`` of their own rewards.

    These are rounded to four digits, and of very many each n-th is tried.
    """
    candidates = sorted({round(reward, 4) for reward in steps.rewards.tolist()})
    return _best(steps, np.array(candidates[:: max(1, len(candidates) // _MOST_SWEPT)]))


def _best(steps: ScoredSteps, candidates: Floats) -> float:
    """Return the first of rising ``candidates`` with the best overall score."""
    scores = np.zeros(len(candidates))
    for source in sorted(set(steps.sources.tolist())):
        part = steps.where(steps.sources == source)
        scores += _macro_f1_at(candidates, part) * len(part)
    return float(candidates[scores.argmax()])


def _macro_f1_at(thresholds: Floats, steps: ScoredSteps) -> Floats:
    """As `macro_f1`, at each of ``thresholds``."""
    right, wrong = (np.sort(steps.rewards[kind]) for kind in (steps.correct, ~steps.correct))
    missed, found = np.searchsorted(right, thresholds), np.searchsorted(wrong, thresholds)  # below it
    mistaken = missed + len(wrong) - found
    hits = np.stack([len(right) - missed, found])
    return np.asarray((2 * hits / np.maximum(2 * hits + mistaken, 1)).mean(0))


def area_under_curve(steps: ScoredSteps) -> float | None:
    """Probability that a right step is rewarded above a wrong one; None where one kind is missing."""
    if steps.correct.all() or not steps.correct.any():
        return None
    return float(roc_auc_score(steps.correct, steps.rewards))


def in_calibration_half(questions: Sequence[str], seed: int) -> Bools:
    """Whether each question is in the half that the threshold is chosen on; from its name and the seed."""
    hashes = [xxhash.xxh3_64_intdigest(f"{seed}\n{question}".encode()) for question in questions]
    return np.array([value % 2 == 0 for value in hashes], dtype=np.bool_)


def report(
    steps: ScoredSteps, seed: int, confidence: float = 0.95, threshold_on: str = CALIBRATION
) -> dict[str, Any]:
    """Return all numbers of an evaluation.

    Args:
        steps: those that were judged and scored.
        seed: of the halves and of the bounds.
        confidence: of the bounds.
        threshold_on: one of the protocol's `THRESHOLDS`; with ``test`` all steps are reported, and the
            threshold is chosen on them.

    Raises:
        TrainingError: a reward is no number, or there is no judged step, for ``calibration`` in one half.
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


def table(numbers: dict[str, Any]) -> str:
    """The report for a terminal."""
    width = max(len("source"), len("all (step-weighted)"), *(len(name) for name in numbers["sources"]))
    lines = [f"{'source':<{width}}  {'steps':>7}  {'right':>6}  macro-F1"]
    for name, entry in numbers["sources"].items():
        steps, right = f"{entry['steps']:>7,}", f"{entry['correct_share']:>6.1%}"
        lines.append(f"{name:<{width}}  {steps}  {right}  {entry['macro_f1']:>8.4f}")
    lines.append(
        f"{'all (step-weighted)':<{width}}  {numbers['steps']:>7,}  {'':>6}  {numbers['overall_f1']:>8.4f}"
    )
    auc = "none (one kind of step)" if numbers["auc"] is None else f"{numbers['auc']:.4f}"
    others = f"{numbers['calibration_steps']:,} other steps"
    chosen = "these very steps" if numbers["threshold_on"] == TEST else others
    lines.append(
        f"pooled macro-F1 {numbers['pooled_macro_f1']:.4f}, AUC {auc}; threshold {numbers['threshold']:.4f}, "
        f"chosen on {chosen}"
    )
    return "\n".join(lines)


def lower_bounds(
    steps: ScoredSteps, threshold: float, seed: int, confidence: float
) -> dict[str, float | None]:
    """What each metric of `report` is at least, one-sided, with ``confidence`` in (0, 1).

    None where it has none in most of the resamples: AUC where one kind of step is rare.
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
    """How often each resample draws each question: ``[some of the resamples, questions]``."""
    rng, left = np.random.default_rng(seed), RESAMPLES
    while left:
        some = min(left, max(1, _AT_ONCE // steps))
        yield rng.multinomial(questions, np.full(questions, 1 / questions), size=some)
        left -= some


def _confusions(
    steps: ScoredSteps, question: npt.NDArray[np.intp], questions: int, threshold: float
) -> Weights:
    """Steps by question, source, judgement and prediction: ``[questions, sources, 2, 2]``."""
    sources, source = np.unique(steps.sources, return_inverse=True)
    counts = np.zeros((questions, len(sources), 2, 2), np.int64)
    predicted = steps.rewards >= threshold
    np.add.at(counts, (question, source, steps.correct.astype(int), predicted.astype(int)), 1)
    return counts


def _macro_f1(confusions: Weights) -> Floats:
    """As `macro_f1`, of ``[..., judgement, prediction]``."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    met = confusions.sum(-1) + confusions.sum(-2)
    return np.asarray((2 * hits / np.maximum(met, 1)).mean(-1))


def _overall(confusions: Weights) -> Floats:
    """As `overall`, of ``[resamples, sources, judgement, prediction]``."""
    of_source = confusions.sum((-2, -1))
    return np.asarray((_macro_f1(confusions) * of_source).sum(-1) / of_source.sum(-1))


def _areas(weights: Weights, rewards: Floats, correct: Bools) -> Floats:
    """As `area_under_curve`, of ``[resamples, steps]`` by reward; NaN where one kind is missing."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(rewards) > 0]))
    right, wrong = (np.add.reduceat(weights * kind, starts, axis=1) for kind in (correct, ~correct))
    below = np.cumsum(wrong, axis=1) - wrong / 2  # of equal rewards a half
    pairs = right.sum(1) * wrong.sum(1)
    with np.errstate(invalid="ignore"):
        return np.asarray((right * below).sum(1) / pairs)


def _quantile(values: Floats, share: float) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, share)) if 2 * len(known) > len(values) else None
