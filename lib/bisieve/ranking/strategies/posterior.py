"""BIS with p and R from the posterior of each step's success rate, given K of N right continuations.

A label 1[K/N > τ] from few samples is noisy: a step of rate 0.05 shows no success in 16 samples with
probability 0.44.  With Jeffreys' prior, the rate of a step is Beta(K + ½, N − K + ½).  From it follow

    q = P(K'/N > τ | K, N)    the probability that N new samples would label the step positive, with
                              K' Beta-binomial,
    m = (K + ½) / (N + 1)     the expected rate,
    p = mean of q over the steps,    R = Σ q·m / Σ q,    key = (p(1−p) + α)·R.

At N = 16 and τ = 0, q is 0.29 for K = 0, 0.65 for 1, 0.83 for 2 and above 0.99 from 6 on.  An all-negative
rollout, whose R is 1 by convention in BIS (paper §4), gets the small R that its counts say.  A step that was
not sampled (N = 0: annotation stops after the first zero) has the counts of the last sampled step before it.

The Beta prior of a step's rate is the one of the paper's noise analysis (App. F); the predictive distribution
of new counts is the Beta-binomial, as in "Process Rewards with Learned Reliability" (2605.15529).
"""

from functools import cache

import numpy as np
import pyarrow as pa

from bisieve._text import pluralize
from bisieve.errors import UsageError
from bisieve.ranking.strategies.base import Floats, Strategy, step_owner
from bisieve.records.options import Parameters

_PRIOR = 0.5  # both parameters of Jeffreys' prior
_LARGE = 2.0**512  # a power of two: dividing by it is exact


def _key(rows: pa.Table, parameters: Parameters) -> Floats:
    owner = step_owner(rows)
    right, total = _counts(rows, owner)
    expected = (right + _PRIOR) / (total + 2 * _PRIOR)
    pairs, which = np.unique(np.stack([right, total]), axis=1, return_inverse=True)
    q = np.array([positive_again(k, n, parameters.threshold) for k, n in pairs.T.tolist()])[which.reshape(-1)]
    # bincount adds its weights one after the other, so the sums do not depend on the batch.
    sums = np.bincount(owner, weights=q, minlength=rows.num_rows)
    p = sums / rows["num_steps"].to_numpy()
    weighted = np.bincount(owner, weights=q * expected, minlength=rows.num_rows)
    reliability = weighted / np.where(sums > 0, sums, 1)
    return np.asarray((p * (1.0 - p) + parameters.alpha) * reliability, np.float64)


def _counts(rows: pa.Table, owner: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> list[Floats]:
    """Return K and N of each step, int64 [steps]; an unsampled step has those of the last sampled one."""
    if rows["mc_total"].null_count:
        raise UsageError(
            "num_mc_correct and num_mc_total of all steps for --strategy posterior",
            pluralize(rows["mc_total"].null_count, "rollout") + " without",
            "rank by --strategy bis",
        )
    right, total = (
        rows[name].combine_chunks().flatten().to_numpy().astype(np.int64)
        for name in ("mc_correct", "mc_total")
    )
    step = np.arange(len(total))
    sampled = np.maximum.accumulate(np.where(total > 0, step, -1))
    source = np.where((sampled >= 0) & (owner[sampled] == owner), sampled, step)
    return [right[source], total[source]]


@cache
def positive_again(right: int, total: int, threshold: float) -> float:
    """Return the probability that as many new samples of a step would label it positive.

    Args:
        right: K of the step.
        total: N of the step; of a step without samples, one new sample decides.
        threshold: τ: a step is positive when K'/N exceeds it.
    """
    a, b = right + _PRIOR, total - right + _PRIOR
    new = max(total, 1)
    # Multiples of P(K' = k): from 1 at k = 0, as that probability itself can be below the smallest float.
    mass, positive, every = 1.0, 0.0, 0.0
    for k in range(new + 1):
        every += mass
        if k / new > threshold:
            positive += mass
        mass *= (new - k) / (k + 1) * (a + k) / (b + new - k - 1)
        if mass > _LARGE:
            mass, positive, every = mass / _LARGE, positive / _LARGE, every / _LARGE
    return positive / every


STRATEGY = Strategy(_key, columns=("mc_correct", "mc_total"))
