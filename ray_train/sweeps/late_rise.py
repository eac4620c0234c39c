"""Whether runs would show that a curve takes off at their largest share, and what all the data then give.

    quality(x) = low + 2·rise·σ(ln(x / x_L) / `WIDTH`),    x_L the largest share, σ the logistic function

Such a curve has risen by ``rise`` at x_L, ever faster, and nearly as much is still to come. Runs that show it
are refused. Where seeds vary much they may not show it: then it cannot be excluded that all the data give as
much as such a curve does, and the interval has to say so.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

# In ln x: nine tenths of the rise are within a factor of six of the data, as where learning begins suddenly.
WIDTH = 0.4
SURE = 0.8  # the share of such sweeps that must be refused, for one that is not to exclude the take-off


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
        """Return whether it would hardly be missed."""
        return self.noticed >= SURE


def take_off(
    shares: Floats, means: Floats, errors: Floats, test: ShapeTest, rise: float, best: float
) -> TakeOff:  # fmt: skip
    """Return what the runs say of a curve that has risen as much as they have, but takes off at their end.

    Args:
        shares: Shares of the data, in rising order, [shares].
        means: Of the runs on each, [shares].
        errors: Deviation of each mean from its expected value in each draw, [draws, shares].
        test: The test of their shape.
        rise: The least rise of such a curve; that of the runs, if it is larger.
        best: The largest value of the metric.
    """
    level = 2 / (1 + (shares[-1] / shares) ** (1 / WIDTH))  # rises to 1 at the largest share
    late = means[-1] - max(rise, float(means[-1] - means[0])) * (1 - level)
    noticed = 1 - float(np.mean(test.passes(late + errors)))
    drawn = means + errors
    rises = np.maximum(rise, drawn[:, -1] - drawn[:, 0])
    to_come = 2 / (1 + shares[-1] ** (1 / WIDTH)) - 1
    return TakeOff(noticed, np.minimum(drawn[:, -1] + rises * to_come, best))
