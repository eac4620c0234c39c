"""Estimate how much runs that differ only in their seed vary: by fraction, as runs on smaller ones vary more.

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
# Significance levels of the F test for a fraction that is noisier than the others. At the first level it
# already gets a noise of its own, since too small a noise gives wrong answers, but too large a noise only
# undecided ones. Only at the second is it left out of the common noise of the others. Two degrees of freedom,
# as a cell of three seeds has, are enough: the test takes them into account, and so do the draws, whose tails
# are those of Student's t.
_SEEMS, _SHOWN = 0.2, 0.01
_TINY = 1e-300  # in place of a divisor of 0
_EQUAL = 1e-9  # largest standard deviation of runs that count as equal


@dataclass(frozen=True)
class Noise:
    """How much runs that differ only in their seed vary."""

    deviation: float  # standard deviation of a run
    freedom: int  # degrees of freedom of its estimate

    def drawn(self, rng: np.random.Generator, draws: int = DRAWS) -> Floats:
        """Draw standard deviations from the uncertainty of the estimate (scaled inverse χ), [draws]."""
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
    p_values = {}  # of the F test, by fraction
    quiet = [*groups]
    for fraction, noise in own.items():
        others = pooled_noise([group for other in groups if other != fraction for group in groups[other]])
        if noise is not None and others is not None:
            ratio = noise.deviation**2 / max(others.deviation**2, _TINY)
            p_values[fraction] = float(fdtrc(noise.freedom, others.freedom, ratio))
            # Other runs that are all equal are a coincidence: they do not show that this fraction is noisier.
            if p_values[fraction] < _SHOWN and others.deviation > _EQUAL:
                quiet.remove(fraction)
    common = pooled_noise([group for fraction in quiet for group in groups[fraction]])
    if common is None:
        return None
    return {
        fraction: noise
        if noise and p_values.get(fraction, 1.0) < _SEEMS and noise.deviation > common.deviation
        else common
        for fraction, noise in own.items()
    }
