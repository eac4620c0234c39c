"""The numbers of the paper's theory (§3, App. F) hold where they are sampled; see docs/study.md."""

import numpy as np
import pytest

from bench.study.theory import (
    N,
    effective_noise,
    enumerated_mixture,
    expected_mixture,
    flipped,
    measured_noise,
    measured_second_moment,
    second_moment,
    student,
)

ETAS = (0.0, 0.05, 0.25, 0.4)


@pytest.mark.parametrize("eta", ETAS)
@pytest.mark.parametrize("q", [0.1, 0.5, 0.8])
def test_the_second_moment_of_the_gradient_is_that_of_the_theory(q: float, eta: float) -> None:
    measured = measured_second_moment(q, eta, np.random.default_rng(1))
    assert measured == pytest.approx(second_moment(np.array(q), eta), abs=0.004)


def test_balanced_steps_have_the_largest_gradients_only_while_fewer_than_a_quarter_of_labels_flip() -> None:
    q = np.linspace(0.05, 0.95, 19)
    assert q[second_moment(q, 0.1).argmax()] == pytest.approx(0.5)
    assert np.ptp(second_moment(q, 0.25)) < 1e-12
    assert q[second_moment(q, 0.4).argmin()] == pytest.approx(0.5)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_the_expected_mixture_of_a_rollout_is_exact_and_within_its_bounds(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(20):
        q = rng.beta(0.8, 0.5, n)
        theta = q.mean() * (1 - q.mean())
        mixture = enumerated_mixture(q)
        assert mixture == pytest.approx(expected_mixture(q))
        assert theta * (1 - 1 / n) - 1e-12 <= mixture <= theta + 1e-12
        assert theta - mixture <= 1 / (4 * n) + 1e-12


@pytest.mark.parametrize("eta", ETAS)
def test_flipped_labels_move_the_mixture_by_at_most_twice_their_share(eta: float) -> None:
    for mean in np.linspace(0, 1, 21):
        theta, noisy = mean * (1 - mean), flipped(np.array(mean), eta)
        moved = noisy * (1 - noisy)
        assert moved == pytest.approx((1 - 2 * eta) ** 2 * theta + eta * (1 - eta))
        assert abs(moved - theta) <= 2 * eta + 1e-12


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 4)])
def test_the_effective_noise_is_that_of_sampled_steps_and_falls_with_every_right_continuation(
    a: float, b: float
) -> None:
    theory = effective_noise(np.arange(N + 1), a, b, tau=0.3)
    measured = measured_noise(a, b, 0.3, np.random.default_rng(0))
    assert (np.diff(theory) < 0).all()
    np.testing.assert_allclose(measured, theory, atol=0.03)


def test_in_the_theorys_own_model_a_tenth_by_bis_teaches_more_than_a_random_tenth() -> None:
    """Over eight teachers: one shows nothing."""
    runs = [student(np.random.default_rng(seed), rollouts=4_000) for seed in range(8)]
    gains = np.array([run["bis 0.2", 0.1] - run["random", 0.1] for run in runs])
    assert gains.mean() > 2 * gains.std(ddof=1) / np.sqrt(len(runs))
