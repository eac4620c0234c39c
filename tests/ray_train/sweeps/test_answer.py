"""The smallest fraction that is enough is named only where it is enough, with the stated confidence."""

import numpy as np
import pytest

from ray_train.sweeps.answer import (
    ENOUGH,
    NONE,
    UNDECIDED,
    UNKNOWN,
    Answer,
    Cell,
    Estimate,
    answers,
    with_warnings,
)

AVAILABLE = 12_000


def cell(
    strategy: str, fraction: float, mean: float, deviation: float = 0.0, seeds: int = 3, seed: int = 0,
    alpha: str = "", objective: str = "hard",
) -> Cell:  # fmt: skip
    """A cell whose runs have exactly this mean and standard deviation, or for a seed above 0 are drawn."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(seeds) if seed else np.array([-1.0, 0.0, 1.0, *[0.0] * (seeds - 3)])[:seeds]
    values = tuple((mean + deviation * noise).tolist())
    return Cell(strategy, alpha, objective, fraction, int(AVAILABLE * fraction), values)


def only(cells: list[Cell], delta: float = 0.01) -> Answer:
    (found,) = answers(cells, AVAILABLE, delta, 0.95)
    return found


def test_the_smallest_fraction_that_is_surely_enough_is_chosen() -> None:
    found = only([
        cell("bis", 0.05, 0.70, 0.001, alpha="0.05"), cell("bis", 0.1, 0.829, 0.001, alpha="0.05"),
        cell("bis", 0.25, 0.831, 0.001, alpha="0.05"), cell("random", 0.1, 0.75, 0.001),
        cell("all", 1.0, 0.83, 0.001),
    ])  # fmt: skip
    assert found.verdict == ENOUGH
    assert found.measured
    assert found.chosen is not None
    assert (found.chosen.cell.name, found.chosen.cell.fraction) == ("bis α 0.05", 0.1)
    assert found.chosen.shortfall == pytest.approx(0.001)
    assert 0.001 < found.chosen.most < 0.01
    assert found.best is not None
    assert found.best.cell.fraction == 0.25


def test_enough_is_not_worse_and_equivalent_is_neither_worse_nor_better() -> None:
    for mean, is_equivalent in ((0.829, True), (0.86, False)):
        found = only([cell("bis", 0.1, mean, 0.001), cell("all", 1.0, 0.83, 0.001)])
        assert found.verdict == ENOUGH
        assert found.chosen is not None
        assert found.chosen.is_equivalent == found.chosen.numbers()["equivalent"] == is_equivalent


def test_a_fraction_that_is_only_probably_enough_is_undecided() -> None:
    found = only([cell("bis", 0.1, 0.829, 0.02), cell("all", 1.0, 0.83, 0.02)])
    assert found.verdict == UNDECIDED
    assert found.chosen is not None
    assert found.chosen.most > 0.01


def test_a_fraction_that_is_only_probably_not_enough_is_undecided_and_the_best_is_named() -> None:
    found = only([cell("bis", 0.05, 0.8, 0.02), cell("bis", 0.1, 0.815, 0.02), cell("all", 1.0, 0.83, 0.02)])
    assert found.verdict == UNDECIDED
    assert found.chosen is not None
    assert found.chosen == found.best
    assert found.chosen.cell.fraction == 0.1
    assert found.chosen.least < 0.01 < found.chosen.shortfall


def test_that_none_is_enough_is_said_with_the_bound_of_the_closest() -> None:
    found = only([cell("bis", 0.05, 0.7, 0.002), cell("bis", 0.1, 0.8, 0.002), cell("all", 1.0, 0.83, 0.002)])
    assert found.verdict == NONE
    assert found.best is not None
    assert found.least == found.best.least
    assert 0.01 < found.best.least < found.best.shortfall


def test_without_a_small_fraction_what_is_enough_is_unknown() -> None:
    found = only([cell("bis", 0.5, 0.83, 0.001), cell("all", 1.0, 0.83, 0.001)])
    assert (found.verdict, found.why) == (UNKNOWN, "no fraction below 50% was tried")
    assert found.full is not None


def test_fractions_from_a_half_on_are_no_answer() -> None:
    found = only([cell("bis", 0.1, 0.7, 0.001), cell("bis", 0.5, 0.83, 0.001), cell("all", 1.0, 0.83, 0.001)])
    assert found.verdict == NONE
    assert found.chosen is None
    assert found.best is not None
    assert found.best.shortfall == pytest.approx(0.13)


def test_all_the_data_are_by_a_curve_through_random_where_they_were_not_measured() -> None:
    values = {0.05: 0.70, 0.1: 0.76, 0.25: 0.80, 0.5: 0.82}
    random = [cell("random", fraction, mean, 0.002) for fraction, mean in values.items()]
    found = only([*random, cell("bis", 0.1, 0.85, 0.002)])
    assert not found.measured
    assert found.through == (0.05, 0.1, 0.25, 0.5)
    assert found.full == found.by_curve
    assert found.full is not None
    assert 0.81 < found.full.low < found.full.value < found.full.high < 0.86
    assert found.chosen is not None
    assert found.chosen.cell.strategy == "bis"


def test_a_measured_value_is_shown_beside_the_one_by_the_curve() -> None:
    values = {0.05: 0.70, 0.1: 0.76, 0.25: 0.80, 0.5: 0.82}
    random = [cell("random", fraction, mean, 0.002) for fraction, mean in values.items()]
    found = only([*random, cell("all", 1.0, 0.9, 0.002)])
    assert found.full is not None
    assert found.full.value == pytest.approx(0.9)
    assert found.by_curve is not None
    assert found.by_curve.high < 0.9


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([cell("random", f, 0.7, seeds=1) for f in (0.05, 0.1, 0.25)], "seeds"),
        ([cell("random", f, 0.7, 0.01) for f in (0.05, 0.1)], "a curve needs 3 fractions of random, found 2"),
        ([cell("random", f, m, 0.001) for f, m in ((0.1, 0.6), (0.25, 0.7), (0.5, 0.9))], "ever more slowly"),
        ([cell("random", f, m, 0.001) for f, m in ((0.1, 0.9), (0.25, 0.8), (0.5, 0.7))], "ever more slowly"),
        (
            [cell("random", f, m, 0.005) for f, m in ((0.05, 0.85), (0.1, 0.82), (0.25, 0.79), (0.5, 0.76))],
            "ever more slowly",
        ),
        ([cell("bis", 0.1, 0.7, 0.001)], "found 0"),
    ],
)
def test_what_cannot_be_known_is_unknown_with_a_reason(cells: list[Cell], why: str) -> None:
    found = only(cells)
    assert found.verdict == UNKNOWN
    assert why in found.why


def test_each_objective_has_an_answer_of_its_own() -> None:
    cells = [
        cell("bis", 0.1, mean, 0.001, objective=objective)
        for objective, mean in (("hard", 0.83), ("soft", 0.7))
    ]
    whole = [cell("all", 1.0, 0.83, 0.001, objective=objective) for objective in ("hard", "soft")]
    found = answers([*cells, *whole], AVAILABLE, 0.01, 0.95)
    assert [(each.objective, each.verdict) for each in found] == [("hard", ENOUGH), ("soft", NONE)]


def test_a_fraction_that_is_not_enough_is_hardly_ever_called_enough() -> None:
    """Of 100 sweeps, in which eight selections are each below all the data by just more than δ, at most 9."""
    false = 0
    for number in range(100):
        small = [cell(f"s{i}", 0.1, 0.819, 0.005, seed=1 + 10 * number + i) for i in range(8)]
        whole = cell("all", 1.0, 0.83, 0.005, seed=9 + 10 * number)
        false += only([*small, whole]).verdict == ENOUGH
    assert false <= 9


@pytest.mark.parametrize("deviation", [0.03, 0.006])
def test_a_noisy_fraction_beside_quiet_ones_is_hardly_ever_called_enough(deviation: float) -> None:
    """Of 100 sweeps with a small fraction that is below by 0.015, at most 9."""
    false = 0
    for number in range(100):
        quiet = [cell(f"s{i}", 0.5, 0.8, 0.003, seed=1 + 20 * number + i) for i in range(14)]
        whole = cell("all", 1.0, 0.83, 0.003, seed=15 + 20 * number)
        noisy = cell("bis", 0.05, 0.815, deviation, seed=16 + 20 * number)
        false += only([*quiet, whole, noisy]).verdict == ENOUGH
    assert false <= 9


@pytest.mark.parametrize("shortfall", [0.0, 0.0099])
def test_a_fraction_that_is_enough_is_hardly_ever_said_not_to_be(shortfall: float) -> None:
    """Of 100 sweeps at most 9."""
    false = 0
    for number in range(100):
        small = cell("bis", 0.1, 0.83 - shortfall, 0.005, seed=1 + 2 * number)
        whole = cell("all", 1.0, 0.83, 0.005, seed=2 + 2 * number)
        false += only([small, whole]).verdict == NONE
    assert false <= 9


def test_an_answer_is_a_json_document() -> None:
    numbers = only([cell("bis", 0.1, 0.829, 0.001), cell("all", 1.0, 0.83, 0.001)]).numbers()
    assert numbers["verdict"] == ENOUGH
    assert numbers["chosen"]["fraction"] == 0.1
    assert numbers["all_data"]["value"] == pytest.approx(0.83)
    assert numbers["curve"] is None


def warning(low: float, value: float, position: float | None) -> str:
    full = Estimate(value, low, value + 0.01)
    (found,) = with_warnings(
        [Answer("hard", ENOUGH, full=full)], [Answer("hard", ENOUGH, full=full)], position
    )
    assert found.numbers()["warning"] == found.warning
    return found.warning


@pytest.mark.parametrize(
    ("low", "value", "position", "said"),
    [
        (0.51, 0.52, 0.545, "not above the 0.545 of the position of a step alone: such models have learned"),
        (0.53, 0.55, 0.545, "not surely above the 0.545 of the position of a step alone: such models may"),
        (0.47, 0.49, 0.4, "not above the 0.500 of chance"),
        (0.47, 0.49, None, "not above the 0.500 of chance"),
    ],
)
def test_it_says_what_the_models_are_no_better_than(
    low: float, value: float, position: float | None, said: str
) -> None:
    assert said in warning(low, value, position)


def test_models_that_are_better_than_the_position_have_none() -> None:
    assert warning(0.55, 0.56, 0.545) == ""


def test_another_metric_is_compared_by_the_auc() -> None:
    by_f1 = Answer("hard", ENOUGH, full=Estimate(0.9, 0.89, 0.91))
    by_auc = Answer("hard", ENOUGH, full=Estimate(0.52, 0.51, 0.53))
    (found,) = with_warnings([by_f1], [by_auc], 0.545)
    assert "all the data give an auc of 0.520 (0.510…0.530)" in found.warning


def test_what_is_unknown_has_no_warning() -> None:
    unknown = Answer("hard", UNKNOWN, "too few")
    assert with_warnings([unknown], [unknown], 0.9) == [unknown]
