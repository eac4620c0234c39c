"""Fit a curve that levels off to runs on small shares of the data, and read off what all of it would give.

    quality(x) = full − b·(x^(−c) − 1),    x in (0, 1] the share of the rollouts, b ≥ 0, full ≤ `BEST`

This is the power law a − b·n^(−c) of learning curves, written so that its value at x = 1 is a parameter. For
a given c it is linear in the others, so c is tried on a grid, for all draws of a bootstrap at once.

Such a curve never falls, and rises ever more slowly in log x. Runs that do otherwise are refused, by a test
of all pairs and triples of shares together: no curve of this form tells where they lead.

The runs must also exclude a curve that takes off at their largest share x_L (σ is the logistic function):

    quality(x) = low + 2·rise·σ(ln(x / x_L) / `WIDTH`)

It has risen by ``rise`` at x_L, ever faster, and nearly as much is still to come. Runs that show such a rise
are refused. Where seeds vary much, runs may not show it: then it cannot be excluded that all the data give as
much as such a curve does (`take_off`), and the interval includes that.

The bootstrap is parametric: with three seeds a fraction, resampling the seeds themselves would give intervals
that are far too narrow. A draw adds to each run normal noise of the variance that runs of the same options
have, itself drawn from its χ² distribution, as Student's t does.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
BEST = 1.0  # of the metrics that a sweep compares
LEAST_FRACTIONS = 3  # different ones; the curve has three parameters
_POWERS = np.geomspace(0.02, 3.0, 40)  # of c; near 0 the curve is a logarithm, which does not level off
_TINY = 1e-300  # in place of a divisor of 0
_SIGNIFICANCE = 0.1  # of the shape test: share of runs on a level or logarithmic curve that it refuses
# In ln x: nine tenths of the rise are within a factor of six in the data, as where learning begins suddenly.
WIDTH = 0.4
_TEST_POWER = 0.8  # a take-off is excluded if the shape test would refuse this share of sweeps with it


@dataclass(frozen=True)
class Curve:
    """Curves, one for each row of values that they were fitted to: [rows]."""

    full: Floats  # value for all the data, x = 1
    drop: Floats  # b
    power: Floats  # c
    squared: Floats  # sum of the squared residuals

    def at(self, shares: Floats) -> Floats:
        """Return the values at some shares of the data, [rows, shares]."""
        return self.full[:, None] - self.drop[:, None] * _rise(shares, self.power[:, None])


def _rise(shares: Floats, power: Floats | float) -> Floats:
    return np.asarray(shares**-power - 1.0, np.float64)


def fit(shares: Floats, values: Floats) -> Curve:
    """Fit a curve to each row of ``values`` by least squares.

    Args:
        shares: Share of the data of each run, in (0, 1], [runs].
        values: Value of the metric of each run, [rows, runs].
    """
    candidates = [_with_power(shares, values, float(power)) for power in _POWERS]
    best = np.argmin([each.squared for each in candidates], axis=0)
    rows = np.arange(len(values))
    names = ("full", "drop", "power", "squared")
    return Curve(*(np.stack([getattr(each, name) for each in candidates])[best, rows] for name in names))


def _with_power(shares: Floats, values: Floats, power: float) -> Curve:
    x = _rise(shares, power)
    centred = x - x.mean()
    drop = np.maximum(-(values @ centred) / max(float(centred @ centred), _TINY), 0.0)
    full = values.mean(axis=1) + drop * x.mean()
    through_best = np.maximum((BEST - values) @ x / max(float(x @ x), _TINY), 0.0)
    drop = np.where(full > BEST, through_best, drop)
    full = np.minimum(full, BEST)
    squared = ((values - full[:, None] + drop[:, None] * x) ** 2).sum(axis=1)
    return Curve(full, drop, np.full(len(values), power), squared)


@dataclass(frozen=True)
class ShapeTest:
    """A test of the means of runs: may they be on a curve that never falls and gets no steeper?"""

    contrasts: Floats  # of the means, in standard deviations; not below 0 on such a curve [sums, shares]
    least: float  # the smallest contrast at which runs are not refused

    def passes(self, means: Floats) -> npt.NDArray[np.bool_]:
        """Return whether means, [.., shares], are not refused, [..]."""
        return np.asarray((means @ self.contrasts.T).min(axis=-1) >= self.least)


@dataclass(frozen=True)
class TakeOff:
    """A curve that takes off at the largest share."""

    noticed: float  # share of sweeps with the same noise in which it would be refused
    full: Floats  # what all the data then give, [draws]

    @property
    def is_excluded(self) -> bool:
        """Return whether the shape test would almost surely have noticed it."""
        return self.noticed >= _TEST_POWER


@dataclass(frozen=True)
class Extrapolation:
    """What all the data would give, by the curve."""

    curve: Curve  # of the runs themselves: one row
    full: Floats  # values for all the data, by the curve through each draw of the bootstrap, [draws]
    level: Floats  # of the mean of the runs on the largest share, [draws]
    follows: bool  # whether the runs follow the curve; if not, the rest means nothing
    take_off: TakeOff  # whether another curve, which rises late, would have been noticed

    @property
    def highest(self) -> Floats:
        """Return the highest values for all the data that are not excluded, [draws]."""
        return self.full if self.take_off.is_excluded else np.maximum(self.full, self.take_off.full)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the interval of the value for all the data.

        A curve may level off sooner than by any power of the size, but it does not fall. So the interval
        begins at the latest where that of the largest share begins.
        """
        low, high = ((1 + side * confidence) / 2 for side in (-1, 1))
        begin = min(np.quantile(self.full, low), np.quantile(self.level, low))
        return float(begin), float(np.quantile(self.highest, high))


def extrapolate(
    shares: Floats, values: Floats, deviations: Floats, errors: Floats, rise: float
) -> Extrapolation | None:  # fmt: skip
    """Fit the curve to runs, and to draws of a bootstrap.

    Args:
        shares: Share of the data of each run, [runs].
        values: Value of the metric of each run, [runs].
        deviations: Standard deviation of each run among runs that differ in their seed alone, [runs].
        errors: Deviation of each run from its expected value in each draw, [draws, runs].
        rise: A late rise that would matter; that of the runs, if it is larger.

    Returns:
        None for runs on fewer than `LEAST_FRACTIONS` different shares.
    """
    different, group = np.unique(shares, return_inverse=True)
    if len(different) < LEAST_FRACTIONS:
        return None
    averages = (group == np.arange(len(different))[:, None]) / np.bincount(group)[:, None]  # [shares, runs]
    means, of_means = averages @ values, errors @ averages.T
    deviation = np.maximum(np.sqrt(averages**2 @ deviations**2), _TINY)  # of each mean
    found = fit(shares, values[None])
    # With more fractions than the curve has parameters, runs that are off it widen the interval.
    freedom = len(different) - LEAST_FRACTIONS
    off = (((means - found.at(different)[0]) / deviation) ** 2).sum() / freedom if freedom else 1.0
    drawn = fit(shares, found.at(shares) + np.sqrt(max(1.0, off)) * errors)
    level = means[-1] + of_means[:, -1]
    test = _shape_test(different, deviation, of_means)
    late = take_off(different, means, of_means, test, rise)
    return Extrapolation(found, drawn.full, level, bool(test.passes(means)), late)


def _shape_test(shares: Floats, deviation: Floats, errors: Floats) -> ShapeTest:
    """Return the test of whether means may be on a curve that never falls and gets no steeper.

    Args:
        shares: Different ones in rising order, [shares].
        deviation: Of each mean, [shares].
        errors: Deviation of each mean from its expected value in each draw, [draws, shares].
    """
    contrasts = _contrasts(np.log(shares))
    scaled = contrasts / np.sqrt(contrasts**2 @ deviation**2)[:, None]
    least = (errors @ scaled.T).min(axis=1)
    return ShapeTest(scaled, float(np.quantile(least, _SIGNIFICANCE)))


def _contrasts(x: Floats) -> Floats:
    """Return weights of values at rising ``x`` whose sums are at least 0 on each such curve, [sums, x].

    They are the rise between two of x, and of three how far the middle one is above the line through the
    others.
    """
    at = np.eye(len(x))
    rises = [at[last] - at[first] for first, last in combinations(range(len(x)), 2)]
    bends = [
        at[middle]
        - ((x[last] - x[middle]) * at[first] + (x[middle] - x[first]) * at[last]) / (x[last] - x[first])
        for first, middle, last in combinations(range(len(x)), 3)
    ]
    return np.array(rises + bends)


def take_off(shares: Floats, means: Floats, errors: Floats, test: ShapeTest, rise: float) -> TakeOff:
    """Return what the runs say of a curve that has risen as much as they have, but takes off at their end.

    Args:
        shares: Shares of the data, in rising order, [shares].
        means: Of the runs on each, [shares].
        errors: Deviation of each mean from its expected value in each draw, [draws, shares].
        test: The test of their shape.
        rise: The least rise of such a curve; that of the runs, if it is larger.
    """
    level = 2 / (1 + (shares[-1] / shares) ** (1 / WIDTH))  # rises to 1 at the largest share
    late = means[-1] - max(rise, float(means[-1] - means[0])) * (1 - level)
    noticed = 1 - float(np.mean(test.passes(late + errors)))
    drawn = means + errors
    rises = np.maximum(rise, drawn[:, -1] - drawn[:, 0])
    to_come = 2 / (1 + shares[-1] ** (1 / WIDTH)) - 1
    return TakeOff(noticed, np.minimum(drawn[:, -1] + rises * to_come, BEST))
