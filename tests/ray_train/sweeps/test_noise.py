"""The noise of a fraction is that of all runs, but larger where its own runs vary more."""

import numpy as np
import pytest

from ray_train.sweeps.noise import Noise, noise_by_fraction, pooled_noise


def runs(deviation: float) -> list[float]:
    """Three runs with exactly this standard deviation."""
    return [0.8 - deviation, 0.8, 0.8 + deviation]


def test_noise_is_pooled_over_groups_of_equal_options() -> None:
    found = pooled_noise([np.array([0.5, 0.7]), np.array([0.1, 0.2, 0.3]), np.array([0.9])])
    assert found == Noise(pytest.approx(np.sqrt((0.02 + 0.02) / 3)), 3)
    assert pooled_noise([np.array([0.5])]) is None
    assert pooled_noise([np.array([0.5, 0.5])]) == Noise(0.0, 1)


def test_fractions_of_about_equal_noise_share_it() -> None:
    found = noise_by_fraction({0.1: [runs(0.011)], 0.25: [runs(0.01), runs(0.01)], 0.5: [[0.8]]})
    assert found is not None
    assert found[0.1] == found[0.25] == found[0.5] == Noise(pytest.approx(0.0103, abs=1e-4), 6)


def test_a_noisy_fraction_has_its_own_noise_and_the_others_are_spared_it() -> None:
    found = noise_by_fraction({0.05: [runs(0.03)], 0.1: [runs(0.003)] * 5, 0.25: [runs(0.003)] * 5})
    assert found is not None
    assert found[0.05] == Noise(pytest.approx(0.03), 2)
    assert found[0.1] == found[0.25] == Noise(pytest.approx(0.003), 20)


def test_a_fraction_that_only_seems_noisier_keeps_its_runs_in_the_noise_of_the_others() -> None:
    found = noise_by_fraction({0.05: [runs(0.006)], 0.1: [runs(0.003)] * 5})
    assert found is not None
    assert found[0.05] == Noise(pytest.approx(0.006), 2)
    assert found[0.1].freedom == 12


def test_a_fraction_whose_runs_vary_less_has_the_noise_of_all() -> None:
    for least in (0.003, 0.0):
        found = noise_by_fraction({0.05: [runs(least)], 0.1: [runs(0.01)]})
        assert found is not None
        assert found[0.05].deviation >= 0.007


def test_without_two_runs_that_differ_in_their_seed_alone_there_is_no_noise() -> None:
    assert noise_by_fraction({0.1: [[0.5], [0.6]]}) is None
