"""The answer is right about recorded runs of which it was shown only the small fractions, and of use.

The runs are those of the study: of each of its curves (a corpus, a regime and a budget) either all the data
are hidden, or half of them, of which the smaller fractions are then larger shares.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ray_train.sweeps.answer import Cell, answers

STUDY = Path(__file__).parents[2] / "bench/results/study.parquet"
METRIC = "auc"
AVAILABLE = 1_000_000  # of which a cell has its fraction: only shares matter
CONFIDENCE = 0.95
HIDDEN = ((0.25, 1.0), (0.5, 1.0), (0.25, 0.5))  # the largest fraction that is shown, and the hidden one
OF_USE = 1.5  # an interval may cost so many times the rise that the runs show


@dataclass(frozen=True)
class Prediction:
    """What a sweep expects of all the data, and what they gave."""

    value: float
    low: float
    high: float
    hidden: float
    noise: float  # twice the standard error of ``hidden``, which is a mean of runs, too
    largest: float  # mean of the runs on the largest fraction that was shown
    rise: float  # of the runs, from the smallest fraction to the largest

    @property
    def is_covered(self) -> bool:
        return self.low - self.noise <= self.hidden <= self.high + self.noise

    @property
    def cost(self) -> float:
        """The interval score (Gneiting and Raftery, 2007): the width, and a miss by 2/(1 − confidence)."""
        miss = max(self.low - self.hidden, self.hidden - self.high, 0.0)
        return self.high - self.low + 2 / (1 - CONFIDENCE) * miss

    def scaled(self, factor: float) -> "Prediction":
        low, high = (self.value + factor * (end - self.value) for end in (self.low, self.high))
        return replace(self, low=low, high=high)


def recorded() -> dict[tuple[Any, ...], dict[float, list[float]]]:
    """Return by curve and fraction the results of random selections, and at 1 those of all the data."""
    curves: dict[tuple[Any, ...], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in pq.read_table(STUDY).to_pylist():
        usual = row["objective"] == "hard" and not row["base"] and not row["label_threshold"]
        if usual and (row["strategy"] == "random" or row["fraction"] == 1):
            curves[row["regime"], row["budget"], row["corpus"]][row["fraction"]].append(row[METRIC])
    return curves


def shown() -> Iterator[tuple[list[Cell], list[float]]]:
    """Yield what a sweep is shown of each curve, and what is hidden from it."""
    for curve in recorded().values():
        for most, whole in HIDDEN:
            small = {at: curve[at] for at in sorted(curve) if at <= most}
            if len(small) < 3 or min(map(len, (*small.values(), curve.get(whole, [])))) < 2:
                continue
            cells = [
                Cell("random", "", "hard", at / whole, int(AVAILABLE * at / whole), tuple(values))
                for at, values in small.items()
            ]
            yield cells, curve[whole]


def predicted() -> Iterator[Prediction]:
    """Yield what a sweep expects of all the data, for each curve that it does not refuse."""
    for cells, hidden in shown():
        (found,) = answers(cells, AVAILABLE, 0.01, CONFIDENCE)
        if found.full is not None:
            first, last = cells[0].mean, cells[-1].mean
            yield Prediction(
                found.full.value, found.full.low, found.full.high, float(np.mean(hidden)),
                2 * float(np.std(hidden, ddof=1)) / len(hidden) ** 0.5, last, last - first,
            )  # fmt: skip


@pytest.fixture(scope="module")
def predictions() -> list[Prediction]:
    return list(predicted())


def is_trustworthy(predictions: Sequence[Prediction]) -> bool:
    """Whether hardly any interval misses what was hidden, and they are not too wide to be of use."""
    missed = sum(not each.is_covered for each in predictions)
    cost, rise = (np.mean([getattr(each, name) for each in predictions]) for name in ("cost", "rise"))
    return missed <= (1 - CONFIDENCE) * len(predictions) and bool(cost <= OF_USE * rise)


def test_intervals_cover_what_was_hidden_and_are_narrow_enough_to_be_of_use(
    predictions: list[Prediction],
) -> None:
    assert len(predictions) >= 7
    assert is_trustworthy(predictions)
    # The value itself is nearer than that of the largest fraction, which no curve is needed for.
    error, of_largest = (
        np.mean([abs(getattr(each, name) - each.hidden) for each in predictions])
        for name in ("value", "largest")
    )
    assert error < 0.4 * of_largest


@pytest.mark.parametrize("factor", [0.02, 2.0])
def test_intervals_that_are_too_narrow_or_too_wide_would_not_pass(
    factor: float, predictions: list[Prediction]
) -> None:
    assert not is_trustworthy([each.scaled(factor) for each in predictions])


def test_what_is_known_without_any_curve_would_not_pass(predictions: list[Prediction]) -> None:
    """That all the data give no less than the largest fraction, and no more than is possible."""
    assert not is_trustworthy([replace(each, low=each.largest, high=1.0) for each in predictions])


def test_only_a_curve_that_does_not_flatten_is_refused() -> None:
    refused = [cells for cells, _ in shown() if answers(cells, AVAILABLE, 0.01, CONFIDENCE)[0].full is None]
    assert len(refused) <= 2
    for cells in refused:
        sizes, means = np.log([cell.rollouts for cell in cells]), np.array([cell.mean for cell in cells])
        rises = np.diff(means) / np.diff(sizes)  # for each e-fold of rollouts
        assert rises[-1] > rises[0]
