"""How well rewards tell right steps from wrong ones, as VisualProcessBench is reported (paper §1.2).

Neutral steps are never seen here.  The threshold is chosen on one half of the questions and everything
is reported on the other: a threshold tuned on the reported steps would flatter the model.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash
from sklearn.metrics import f1_score, roc_auc_score

from bisieve.errors import TrainingError
from ray_train.evaluation.bounds import lower_bounds
from ray_train.evaluation.scored_steps import Bools, ScoredSteps

_CANDIDATES = 100  # thresholds tried on the calibration half


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
    candidates = np.unique(np.quantile(steps.rewards, np.linspace(0, 1, _CANDIDATES + 1), method="nearest"))
    return float(max(candidates, key=lambda threshold: (overall(steps, threshold)[0], -threshold)))


def area_under_curve(steps: ScoredSteps) -> float | None:
    """Probability that a right step is rewarded above a wrong one; None where one kind is missing."""
    if steps.correct.all() or not steps.correct.any():
        return None
    return float(roc_auc_score(steps.correct, steps.rewards))


def in_calibration_half(questions: Sequence[str], seed: int) -> Bools:
    """Whether each question is in the half that the threshold is chosen on; from its name and the seed."""
    hashes = [xxhash.xxh3_64_intdigest(f"{seed}\n{question}".encode()) for question in questions]
    return np.array([value % 2 == 0 for value in hashes], dtype=np.bool_)


def report(steps: ScoredSteps, seed: int, confidence: float = 0.95) -> dict[str, Any]:
    """All numbers of an evaluation; `TrainingError` when a half has no judged step, or a reward is none."""
    if broken := int((~np.isfinite(steps.rewards)).sum()):
        raise TrainingError(
            "a number as the reward of every step", f"{broken} of {len(steps)} that are none (nan or inf)",
            "evaluate another checkpoint: the weights of this model are broken",
        )  # fmt: skip
    half = in_calibration_half(steps.questions.tolist(), seed)
    calibration, reported = steps.where(half), steps.where(~half)
    if not len(calibration) or not len(reported):
        raise TrainingError(
            "judged steps of several questions in the benchmark, for two halves",
            f"{len(calibration)} and {len(reported)} steps", "give a larger benchmark, or another --seed",
        )  # fmt: skip
    threshold = choose_threshold(calibration)
    mean, sources = overall(reported, threshold)
    return {
        "threshold": threshold,
        "seed": seed,
        "steps": len(reported),
        "calibration_steps": len(calibration),
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
    lines.append(
        f"pooled macro-F1 {numbers['pooled_macro_f1']:.4f}, AUC {auc}; threshold {numbers['threshold']:.4f}, "
        f"chosen on {numbers['calibration_steps']:,} other steps"
    )
    return "\n".join(lines)
