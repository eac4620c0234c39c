"""Say what all the data would give, and the smallest fraction whose models are almost as good.

    cells ──noise by fraction, draws──▶ all the data: measured, else by a `curve` through random selections
      │                                    │
      └── mean of each cell ───────────────┴──▶ shortfall of each cell ──▶ the smallest fraction within δ

The reference is a random selection, since that alone is a smaller corpus of the same kind: a curve through
the best rollouts does not lead to all of them.

Where all the data give no more than the position of a step alone, a small fraction gives as much, but that
means nothing, and the answer has a warning (`with_warnings`). The AUC shows this, whatever the metric of the
sweep: it needs no threshold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bisieve._text import percent
from ray_train.sweeps.config import RANDOM
from ray_train.sweeps.curve import LEAST_FRACTIONS, Extrapolation, Floats, extrapolate
from ray_train.sweeps.noise import DRAWS, Noise, noise_by_fraction

LARGE = 0.5  # fractions from here on save little: the answer names a smaller one
_LATE = 5  # × δ: the least late rise that a curve through the runs has to exclude
ENOUGH, UNDECIDED, NONE, UNKNOWN = "enough", "undecided", "none", "unknown"
_CHANCE = 0.5  # AUC of random rewards


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed alone."""

    strategy: str
    alpha: str  # of the strategy, as text; empty if it does not depend on α
    objective: str
    fraction: float
    rollouts: int  # trained on
    values: tuple[float, ...]  # of the metric, one a run

    @property
    def name(self) -> str:
        """Return the name of the line that the cell is on, without the objective."""
        if self.fraction == 1:
            return "all the data"  # whatever the strategy
        return f"{self.strategy} α {self.alpha}" if self.alpha else self.strategy

    @property
    def mean(self) -> float:
        """Return the mean of the metric over the runs."""
        return float(np.mean(self.values))


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    low: float
    high: float

    def numbers(self) -> dict[str, float]:
        """Return the numbers by name."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Candidate:
    """A cell, and how far it is below all the data."""

    cell: Cell
    shortfall: float
    most: float  # upper bound; it holds for all candidates of an answer together
    least: float  # lower bound, likewise
    is_equivalent: bool  # whether both bounds are within ±δ: also not better by more than δ

    def numbers(self) -> dict[str, Any]:
        """Return the candidate for a JSON document."""
        cell = self.cell
        return {
            "strategy": cell.strategy, "alpha": cell.alpha, "fraction": cell.fraction,
            "rollouts": cell.rollouts, "mean": cell.mean, "shortfall": self.shortfall,
            "shortfall_at_most": self.most, "shortfall_at_least": self.least,
            "equivalent": self.is_equivalent,
        }  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a sweep says of one objective."""

    objective: str
    verdict: str  # one of `ENOUGH`, `UNDECIDED`, `NONE`, `UNKNOWN`
    why: str = ""  # if unknown
    full: Estimate | None = None  # all the data
    measured: bool = False  # whether ``full`` was measured; else it is by the curve
    by_curve: Estimate | None = None  # all the data by the curve alone
    through: tuple[float, ...] = ()  # fractions that the curve was fitted to
    curve: Extrapolation | None = None
    chosen: Candidate | None = None  # if enough or undecided
    best: Candidate | None = None  # the one that is the least below all the data
    least: float | None = None  # all candidates are at least so far below all the data, with the confidence
    warning: str = ""  # why the answer means nothing, or may do

    def numbers(self) -> dict[str, Any]:
        """Return the answer for a JSON document."""
        found = self.curve.curve if self.curve else None
        power = None if found is None else {
            "full": float(found.full[0]), "drop": float(found.drop[0]), "power": float(found.power[0]),
        }  # fmt: skip
        return {
            "objective": self.objective, "verdict": self.verdict, "why": self.why,
            "all_data": self.full and self.full.numbers(), "all_data_measured": self.measured,
            "all_data_by_curve": self.by_curve and self.by_curve.numbers(),
            "late_rise_excluded": self.curve and self.curve.take_off.is_excluded,
            "curve_through": list(self.through), "curve": power,
            "chosen": self.chosen and self.chosen.numbers(), "best": self.best and self.best.numbers(),
            "shortfall_of_all_at_least": self.least, "warning": self.warning,
        }  # fmt: skip


def answers(cells: Sequence[Cell], available: int, delta: float, confidence: float) -> list[Answer]:
    """Return the answer for each objective.

    Args:
        cells: All cells that have a run.
        available: Rollouts that can be selected.
        delta: How far below all the data a fraction may be and still be enough.
        confidence: Of the intervals, in (0, 1).
    """
    groups: dict[float, list[tuple[float, ...]]] = {}
    for cell in cells:
        groups.setdefault(cell.fraction, []).append(cell.values)
    noise = noise_by_fraction(groups)
    objectives = dict.fromkeys(cell.objective for cell in cells)
    return [
        _answer(
            objective, [cell for cell in cells if cell.objective == objective], available, delta, confidence,
            noise,
        )
        for objective in objectives
    ]  # fmt: skip


def _answer(
    objective: str, cells: Sequence[Cell], available: int, delta: float, confidence: float,
    noise: Mapping[float, Noise] | None,
) -> Answer:  # fmt: skip
    if noise is None:
        return Answer(objective, UNKNOWN, "no two runs differ in their seed alone: give more --seeds")
    rng = np.random.default_rng(0)
    drawn_noise = {each: each.drawn(rng)[:, None] for each in dict.fromkeys(noise.values())}
    errors = [
        drawn_noise[noise[cell.fraction]] * rng.standard_normal((DRAWS, len(cell.values))) for cell in cells
    ]
    sampled = [at for at, cell in enumerate(cells) if cell.strategy == RANDOM and cell.fraction < 1]
    curve = _through_random(cells, sampled, errors, available, noise, _LATE * delta)
    by_curve, through = None, tuple(cells[at].fraction for at in sampled)
    if curve is not None and curve.follows:
        by_curve = Estimate(float(curve.curve.full[0]), *curve.interval(confidence))
    whole = [at for at, cell in enumerate(cells) if cell.fraction == 1]
    if whole:
        least = most = cells[whole[0]].mean + errors[whole[0]].mean(axis=1)
        full = Estimate(cells[whole[0]].mean, *_central(least, confidence))
    elif curve is not None and by_curve is not None:
        least, most, full = curve.full, curve.highest, by_curve
    else:
        return Answer(objective, UNKNOWN, _why_not(curve, through), curve=curve, through=through)
    found = Answer(objective, NONE, "", full, bool(whole), by_curve, through, curve)
    return _chosen(found, cells, errors, (least, most), delta, confidence)


def _through_random(
    cells: Sequence[Cell], sampled: Sequence[int], errors: Sequence[Floats], available: int,
    noise: Mapping[float, Noise], rise: float,
) -> Extrapolation | None:  # fmt: skip
    if not sampled:
        return None
    shares = [np.full(len(cells[at].values), cells[at].rollouts / available) for at in sampled]
    values = [np.array(cells[at].values) for at in sampled]
    deviations = [np.full(len(cells[at].values), noise[cells[at].fraction].deviation) for at in sampled]
    of_runs = np.concatenate([errors[at] for at in sampled], axis=1)
    of_all = np.concatenate(shares), np.concatenate(values), np.concatenate(deviations)
    return extrapolate(*of_all, of_runs, rise)


def _central(drawn: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _why_not(curve: Extrapolation | None, through: Sequence[float]) -> str:
    if curve is None:
        return (
            f"a curve needs {LEAST_FRACTIONS} fractions of {RANDOM}, found {len(through)}: give more "
            "--fractions, or 100%"
        )
    names = ", ".join(map(percent, through))
    return (
        f"{RANDOM} at {names} does not follow a curve that rises ever more slowly: give larger --fractions, "
        "or 100%"
    )


def _chosen(
    found: Answer, cells: Sequence[Cell], errors: Sequence[Floats], full: tuple[Floats, Floats],
    delta: float, confidence: float,
) -> Answer:  # fmt: skip
    """Return the answer with its verdict; `ENOUGH` and `NONE` have the stated confidence.

    Args:
        found: The answer so far.
        cells: All cells of its objective.
        errors: Deviation of each run from its expected value in each draw, by cell [draws, runs].
        full: What all the data give at least, and what at most, [draws] each.
        delta: As of `answers`.
        confidence: As of `answers`.
    """
    small = [at for at, cell in enumerate(cells) if cell.fraction < LARGE]
    if not small or found.full is None:
        return replace(found, verdict=UNKNOWN, why=f"no fraction below {percent(LARGE)} was tried")
    # One of many candidates is below by chance: the error is divided among them (Bonferroni).
    error = (1 - confidence) / len(small)
    candidates = []
    for at in small:
        least, most = (each - (cells[at].mean + errors[at].mean(axis=1)) for each in full)
        bounds = float(np.quantile(most, 1 - error)), float(np.quantile(least, error))
        shortfall, within = found.full.value - cells[at].mean, -delta < bounds[1] and bounds[0] < delta
        candidates.append(Candidate(cells[at], shortfall, *bounds, within))
    best = min(candidates, key=lambda each: each.shortfall)
    found = replace(found, best=best, least=min(each.least for each in candidates))
    for verdict, passing in (
        (ENOUGH, [each for each in candidates if each.most <= delta]),
        (UNDECIDED, [each for each in candidates if each.shortfall <= delta]),
    ):
        if passing:
            chosen = min(passing, key=lambda each: (each.cell.fraction, each.shortfall))
            return replace(found, verdict=verdict, chosen=chosen)
    is_shown = all(each.least > delta for each in candidates)
    return found if is_shown else replace(found, verdict=UNDECIDED, chosen=best)


def with_warnings(
    answers: Sequence[Answer], by_auc: Sequence[Answer], position: float | None
) -> list[Answer]:
    """Return the answers, each with a warning where it means nothing.

    Args:
        answers: Answers by the metric of the sweep.
        by_auc: Answers by the AUC.
        position: AUC of the position alone; None if it is undefined.
    """
    found = {answer.objective: answer.full for answer in by_auc}
    return [
        replace(answer, warning=_warning(auc, position)) if answer.full and auc else answer
        for answer in answers
        for auc in (found.get(answer.objective),)
    ]


def _warning(auc: Estimate, position: float | None) -> str:
    by, level = "chance", _CHANCE
    if position is not None and position > _CHANCE:
        by, level = "the position of a step alone", position
    if auc.low > level:
        return ""
    said = f"all the data give an auc of {auc.value:.3f} ({auc.low:.3f}…{auc.high:.3f})"
    if auc.value > level:
        return (
            f"{said}, not surely above the {level:.3f} of {by}: such models may have learned nothing, and "
            "then the answer means nothing"
        )
    return (
        f"{said}, not above the {level:.3f} of {by}: such models have learned nothing, so the answer means "
        "nothing"
    )
