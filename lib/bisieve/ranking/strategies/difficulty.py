"""Weighted sampling without replacement, by how near a question's mean MC score is to moderate.

A question whose steps have the mean MC score d gives each of its rollouts the weight of a normal density,

    w = exp(−(d − μ)² / 2σ²),    μ = 0.5, σ = 0.2,

and the best k rollouts are a sample of k without replacement by these weights.  The order is by the
Gumbel-max trick (Vieira, 2014; equal in distribution to Efraimidis and Spirakis, 2006):

    key = ln w − ln(−ln u),    u in (0, 1) a seeded hash of the rollout's id.

Sampling by a normal distribution around moderate difficulty is a part of DEPO (2509.01321), which samples
questions for reinforcement learning; its exact equations are not public, so μ and σ are our choice.
"""

import numpy as np
import pyarrow as pa

from bisieve._hash import seeded_hashes
from bisieve.ranking.grouped import GroupPass, question_group, with_column
from bisieve.ranking.strategies.base import Floats, Strategy, no_key, step_owner, step_scores
from bisieve.records.options import Parameters

MODERATE, WIDTH = 0.5, 0.2  # μ and σ

_UNIT = 2.0**32  # scores are summed as integers: the sum then does not depend on the order
_OF_SAMPLE = 0x5EED_0F_D1FF  # makes the hash another one than that of ties
_LN_2 = 0.6931471805599453
_SERIES = 1.0 / np.arange(25, 0, -2)  # 1/25, 1/23, …, 1/3, 1: of the series of atanh
_SQRT_HALF = 0.7071067811865476


def _with_sums(rows: pa.Table, parameters: Parameters) -> pa.Table:
    """Add the number of steps and the sum of their scores, in units of 2⁻³², to be summed up by question."""
    units = np.rint(step_scores(rows) * _UNIT)
    sums = np.bincount(step_owner(rows), weights=units, minlength=rows.num_rows)  # exact below 2⁵³
    rows = with_column(rows, "_score", sums.astype(np.int64))
    return with_column(rows, "_steps", rows["num_steps"].to_numpy().astype(np.int64))


def _sampled(rows: pa.Table, parameters: Parameters) -> pa.Table:
    mean = rows["_score"].to_numpy() / _UNIT / rows["_steps"].to_numpy()
    away = (mean - MODERATE) / WIDTH
    hashes = seeded_hashes(rows["rollout_id"].to_pylist(), parameters.seed ^ _OF_SAMPLE)
    u = ((hashes >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52
    return with_column(rows, "key", -(away * away) / 2 - natural_log(-natural_log(u)))


def natural_log(x: Floats) -> Floats:
    """Return ln x for positive ``x``, with equal bits on all machines, unlike ``np.log``.

    ln x = e·ln 2 + 2·atanh(z), with x = m·2ᵉ, m in [√½, √2), z = (m − 1)/(m + 1), and 13 terms of the series.
    """
    m, exponent = np.frexp(x)
    small = m < _SQRT_HALF
    m, exponent = np.where(small, 2 * m, m), exponent - small
    z = (m - 1) / (m + 1)
    series = np.zeros_like(z)
    for factor in _SERIES:
        series = series * (z * z) + factor
    return np.asarray(exponent * _LN_2 + 2 * z * series, np.float64)


STRATEGY = Strategy(
    no_key,
    (GroupPass(question_group, _with_sums, _sampled, sums=("_score", "_steps")),),
    options=("seed",),
    uses_alpha=False,
)
