"""BIS of the posterior of each step's success rate."""

from math import exp, fsum, lgamma

import pyarrow as pa
import pytest
from support.rankings import Given, parameters, ranking, usable

from bisieve.errors import UsageError
from bisieve.ranking.order import ranking_key
from bisieve.ranking.strategies.posterior import positive_again


def beta_binomial(successes: int, samples: int, a: float, b: float) -> float:
    def log_beta(x: float, y: float) -> float:
        return lgamma(x) + lgamma(y) - lgamma(x + y)

    ways = lgamma(samples + 1) - lgamma(successes + 1) - lgamma(samples - successes + 1)
    return exp(ways + log_beta(a + successes, b + samples - successes) - log_beta(a, b))


@pytest.mark.parametrize("threshold", [0.0, 0.125, 0.8])
@pytest.mark.parametrize("samples", [1, 4, 16])
def test_a_step_is_positive_again_with_the_predictive_probability(samples: int, threshold: float) -> None:
    for right in range(samples + 1):
        a, b = right + 0.5, samples - right + 0.5
        wanted = sum(beta_binomial(k, samples, a, b) for k in range(samples + 1) if k / samples > threshold)
        assert positive_again(right, samples, threshold) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    ("right", "total", "threshold"),
    [(1000, 2000, 0.5), (2000, 2000, 0.5), (0, 2000, 0.0), (600, 1000, 0.6), (1999, 2000, 0.999)],
)
def test_the_probability_holds_for_thousands_of_samples(right: int, total: int, threshold: float) -> None:
    a, b = right + 0.5, total - right + 0.5
    wanted = fsum(beta_binomial(k, total, a, b) for k in range(total + 1) if k / total > threshold)
    assert positive_again(right, total, threshold) == pytest.approx(wanted, abs=1e-9)


def test_the_probability_grows_with_the_successes() -> None:
    found = [positive_again(right, 3000, 0.5) for right in range(0, 3001, 100)]
    assert found == sorted(found)
    assert found[0] < 1e-100
    assert found[15] == pytest.approx(0.5, abs=0.01)
    assert found[-1] == 1.0


def key_of(right: list[int], total: list[int], alpha: float = 0.05) -> float:
    asked = parameters("posterior", alpha=alpha)
    rows = usable([Given(tuple(k / max(n, 1) for k, n in zip(right, total, strict=True)))], asked)
    for name, counts in (("mc_correct", right), ("mc_total", total)):
        rows = rows.set_column(rows.column_names.index(name), name, pa.array([counts], pa.list_(pa.int32())))
    (key,) = ranking_key(rows, asked)
    return float(key)


def test_the_key_is_bis_of_expected_labels_and_rates() -> None:
    q = [positive_again(16, 16, 0.0), positive_again(4, 16, 0.0), positive_again(0, 16, 0.0)]
    rates = [16.5 / 17, 4.5 / 17, 0.5 / 17]
    p = sum(q) / 3
    reliability = sum(a * b for a, b in zip(q, rates, strict=True)) / sum(q)
    assert key_of([16, 4, 0], [16, 16, 16], alpha=0.2) == pytest.approx((p * (1 - p) + 0.2) * reliability)


def test_steps_after_an_early_stop_have_the_counts_of_the_step_that_stopped() -> None:
    assert key_of([16, 0, 0, 0], [16, 16, 0, 0]) == key_of([16, 0, 0, 0], [16, 16, 16, 16])
    assert key_of([0, 0], [0, 0]) > 0  # never sampled: the prior


def test_all_negative_rollouts_no_longer_equal_perfect_ones() -> None:
    rollouts = [Given((0.0, 0.0)), Given((1.0, 1.0)), Given((0.0625, 0.0)), Given((1.0, 0.0))]
    assert ranking(rollouts, "bis", alpha=0.2)[1:3] == [0, 1]
    assert ranking(rollouts, "posterior", alpha=0.2) == [3, 1, 2, 0]


def test_rollouts_without_counts_are_refused() -> None:
    asked = parameters("posterior")
    rows = usable([Given((1.0,))], asked)
    rows = rows.set_column(rows.column_names.index("mc_total"), "mc_total", pa.nulls(1, pa.list_(pa.int32())))
    with pytest.raises(UsageError, match=r"num_mc_total of all steps .* found 1 rollout without"):
        ranking_key(rows, asked)
