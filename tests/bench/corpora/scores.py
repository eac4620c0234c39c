"""Draws MC counts: K of 16 continuations a step, with the ties and mixtures of the real corpus (§2.3)."""

import numpy as np
import numpy.typing as npt

from bench.corpora.sources import Source

N = 16  # continuations a step

Counts = npt.NDArray[np.int64]

_MEAN_SCORE = 0.8566
_MIXED = 0.0767  # of all rollouts have steps of both kinds
_ALL_NEGATIVE = 0.01
_PERFECT = 0.38  # of the all-positive rollouts have nothing but 16 of 16: the block of ties
_MORE_ERRORS = 0.9  # a mixed rollout has 1.9 negative steps


def draw_num_steps(rng: np.random.Generator, source: Source, rollouts: int) -> Counts:
    """Steps of each rollout, at least one."""
    return 1 + rng.poisson(max(source.steps / source.rollouts - 1, 0.0), rollouts)


def draw_counts(rng: np.random.Generator, source: Source, num_steps: Counts) -> Counts:
    """K of every step of rollouts of ``num_steps`` steps, flat.

    Errors come at the end of a rollout, as they do where one wrong step spoils what follows.
    """
    rollouts = len(num_steps)
    hardness = (1 - source.mean_score) / (1 - _MEAN_SCORE)
    kind = rng.random(rollouts)
    negative = kind < _ALL_NEGATIVE * hardness
    mixed = ~negative & (kind < (_ALL_NEGATIVE + _MIXED) * hardness) & (num_steps > 1)
    perfect = ~negative & ~mixed & (rng.random(rollouts) < _PERFECT)
    quality = np.where(mixed, rng.beta(3, 2, rollouts), rng.beta(6, 1, rollouts))
    errors = np.where(mixed, np.minimum(1 + rng.poisson(_MORE_ERRORS, rollouts), num_steps - 1), 0)
    errors = np.where(negative, num_steps, errors)

    counts = np.maximum(rng.binomial(N, np.repeat(quality, num_steps)), 1)
    counts[np.repeat(perfect, num_steps)] = N
    ends = np.cumsum(num_steps)
    from_end = np.repeat(ends, num_steps) - np.arange(ends[-1])  # 1 is a rollout's last step
    counts[from_end <= np.repeat(errors, num_steps)] = 0
    return counts
