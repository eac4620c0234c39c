"""Say how much runs vary that differ in their seed alone: of each fraction, as smaller ones vary more.

cells ──pooled by fraction──▶ a fraction that seems noisier than the others: its own noise
                         └──▶ all others: their common noise
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import fdtrc

Floats: TypeAlias = npt.NDArray[np.float64]

DRAWS = 4000
# Levels of the F test that a fraction is noisier than the others. It has its own noise already where it only
# seems to be, since too small a noise gives wrong answers, and too large a one only undecided ones. The
# others are spared its noise only where it is shown. Two degrees of freedom, as one cell of three seeds has,
# are enough: the test counts them, and so do the draws, whose tails are those of Student's t.
_SEEMS, _SHOWN = 0.2, 0.01
_TINY = 1e-300  # in place of a divisor of 0
_EQUAL = 1e-9  # of runs that vary no more than this all are equal


@dataclass(frozen=True)
class Noise:
    """How much runs vary that differ in their seed alone."""

    deviation: float  # standard deviation of a run
    freedom: int  # degrees of freedom of its estimate

    def drawn(self, rng: np.random.Generator, draws: int = DRAWS) -> Floats:
        """Return standard deviations that are as likely as the estimate is certain, [draws]."""
        return self.deviation * np.sqrt(self.freedom / rng.chisquare(self.freedom, draws))


def pooled_noise(groups: Sequence[Sequence[float] | Floats]) -> Noise | None:
    """Return the noise of runs in groups of equal options; None if no group has two runs."""
    freedom = sum(len(group) - 1 for group in groups)
    if freedom == 0:
        return None
    squared = sum(float(((np.asarray(group) - np.mean(group)) ** 2).sum()) for group in groups)
    return Noise(float(np.sqrt(squared / freedom)), freedom)


def noise_by_fraction(groups: Mapping[float, Sequence[Sequence[float]]]) -> dict[float, Noise] | None:
    """Return the noise of each fraction, never less than that of the others together.

    Args:
        groups: By fraction the groups of runs of equal options.

    Returns:
        None if no group has two runs.
    """
    own = {fraction: pooled_noise(of_fraction) for fraction, of_fraction in groups.items()}
    doubt = {}  # of each fraction, that it is noisier than the others
    quiet = [*groups]
    for fraction, noise in own.items():
        others = pooled_noise([group for other in groups if other != fraction for group in groups[other]])
        if noise is not None and others is not None:
            ratio = noise.deviation**2 / max(others.deviation**2, _TINY)
            doubt[fraction] = float(fdtrc(noise.freedom, others.freedom, ratio))
            # Runs that are all equal are a coincidence, not shown to be without noise.
            if doubt[fraction] < _SHOWN and others.deviation > _EQUAL:
                quiet.remove(fraction)
    common = pooled_noise([group for fraction in quiet for group in groups[fraction]])
    if common is None:
        return None
    return {
        fraction: noise
        if noise and doubt.get(fraction, 1.0) < _SEEMS and noise.deviation > common.deviation
        else common
        for fraction, noise in own.items()
    }
