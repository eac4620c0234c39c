"""An answer by a curve says if the runs do not show whether a rise is still to come."""

from collections.abc import Callable

import numpy as np
import pytest

from ray_train.sweeps.answer import ENOUGH, Answer, Cell, answers
from ray_train.sweeps.config import SweepConfig
from ray_train.sweeps.late_rise import ShapeTest, take_off
from ray_train.sweeps.report import sentences

FRACTIONS = (0.05, 0.1, 0.25, 0.5)
AVAILABLE = 100_000
DELTA = 0.01
Curve = Callable[[float], float]


def late(centre: float, width: float) -> Curve:
    return lambda x: 0.6 + 0.25 / (1 + (centre / x) ** (1 / width))


def slow(x: float) -> float:
    return 0.88 - 0.05 * x**-0.5


def swept(curve: Curve, fractions: int, deviation: float, seed: int, seeds: int = 3) -> Answer:
    """Return the answer for random selections, and for one of 10 % that is as good as the largest."""
    rng = np.random.default_rng(seed)
    at = [*FRACTIONS[:fractions]]
    runs = {x: (curve(x) + deviation * rng.standard_normal(seeds)).tolist() for x in at}
    cells = [Cell("random", "", "hard", x, int(AVAILABLE * x), tuple(of)) for x, of in runs.items()]
    best = curve(at[-1]) + deviation * rng.standard_normal(seeds)
    cells.append(Cell("bis", "", "hard", 0.1, AVAILABLE // 10, tuple(best.tolist())))
    (found,) = answers(cells, AVAILABLE, DELTA, 0.95)
    return found


def is_excluded(found: Answer) -> bool:
    assert found.curve is not None
    return found.curve.take_off.is_excluded


@pytest.mark.parametrize("deviation", [0.01, 0.02, 0.03])
@pytest.mark.parametrize("fractions", [3, 4])
@pytest.mark.parametrize(
    "curve", [late(0.3, 0.4), late(0.4, 0.3), late(0.6, 0.3)], ids=["", "steep", "later"]
)
def test_a_late_rise_is_refused_or_covered_or_said_not_to_be_excluded(
    curve: Curve, fractions: int, deviation: float
) -> None:
    """Of 20 sweeps at most one is silent, and none calls a fraction enough."""
    silent = 0
    for seed in range(20):
        found = swept(curve, fractions, deviation, seed)
        assert found.verdict != ENOUGH
        if found.full is not None:
            silent += is_excluded(found) and not found.full.low <= curve(1.0) <= found.full.high
    assert silent <= 1


def test_quiet_runs_that_level_off_exclude_it_and_their_interval_is_that_of_the_curve() -> None:
    found = [swept(slow, 4, 0.005, seed) for seed in range(20)]
    assert sum(map(is_excluded, found)) >= 18
    for each in found:
        assert each.curve is not None
        if is_excluded(each):
            assert each.curve.highest is each.curve.full
            assert each.numbers()["late_rise_excluded"]


def test_more_seeds_tell() -> None:
    few, many = ([swept(slow, 4, 0.03, seed, seeds) for seed in range(5)] for seeds in (3, 24))
    assert sum(map(is_excluded, few)) <= 1
    assert sum(map(is_excluded, many)) >= 4


def test_it_is_said_in_the_answer_and_is_in_the_interval() -> None:
    config = SweepConfig(index="i", image_root="r", backbone="b", benchmark="m", output="o")
    noisy, quiet = swept(slow, 3, 0.02, 0), swept(slow, 4, 0.002, 0)
    assert "a rise that takes off at 25% is not excluded, as only " in sentences(noisy, config, False)[0]
    assert "not excluded" not in sentences(quiet, config, False)[0]
    assert noisy.curve is not None
    assert noisy.full is not None
    assert noisy.full.high > np.quantile(noisy.curve.full, 0.975)


def test_it_gives_nearly_as_much_again_as_the_runs_have_risen() -> None:
    means, shares = np.array([0.6, 0.61, 0.62, 0.7]), np.array(FRACTIONS)
    never = ShapeTest(np.eye(4), -1.0)
    found = take_off(shares, means, np.zeros((2, 4)), never, 0.05, 1.0)
    assert found.noticed == 0
    assert found.full == pytest.approx([0.7 + 0.1 * (2 / (1 + 0.5**2.5) - 1)] * 2)
    always = ShapeTest(np.eye(4), 1.0)
    assert take_off(shares, means, np.zeros((2, 4)), always, 0.05, 1.0).is_excluded
    # A rise that matters, where the runs show none; and never more than the best value.
    level = take_off(shares, np.full(4, 0.7), np.zeros((1, 4)), never, 0.05, 1.0)
    assert level.full == pytest.approx([0.7 + 0.05 * (2 / (1 + 0.5**2.5) - 1)])
    assert take_off(shares, np.array([0.1, 0.2, 0.5, 0.9]), np.zeros((1, 4)), never, 0.05, 1.0).full == [1.0]
