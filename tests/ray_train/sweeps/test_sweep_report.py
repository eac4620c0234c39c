"""The table and the plot of a sweep show all cells, and the answer is a sentence."""

import json

import pytest
from support.piped_lines import joined
from support.swept import AVAILABLE, CELLS, CONFIG

from ray_train.sweeps.answer import Cell, answers, with_warnings
from ray_train.sweeps.config import SweepConfig
from ray_train.sweeps.report import mean_interval, plot, report


def text(cells: list[Cell], delta: float = 0.01, position: float | None = None) -> str:
    config = SweepConfig(**{**vars(CONFIG), "delta": delta})
    found = answers(cells, AVAILABLE, delta, 0.95)
    return joined(str(report(config, cells, with_warnings(found, found, position), position)))


def test_the_interval_of_a_mean_is_students() -> None:
    found = mean_interval([0.7, 0.8, 0.9], 0.95)
    assert found.value == pytest.approx(0.8)
    assert found.high - found.value == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    alone = mean_interval([0.7], 0.95)
    assert alone.value == 0.7
    assert alone.low != alone.low


def test_the_table_has_a_row_a_line_and_a_column_a_fraction() -> None:
    lines = text(CELLS).splitlines()
    assert lines[0].split() == ["auc", "10%", "(1,200)", "25%", "(3,000)", "100%", "(12,000)"]
    assert lines[1].split() == ["bis", "α", "0.05", "0.812", "±", "0.005", "0.832", "±", "0.005"]
    assert lines[2].split() == ["random", "0.700", "(1)"]
    assert lines[3].split() == ["all", "the", "data", "0.831", "±", "0.005"]
    assert max(map(len, lines[:4])) <= 100


def test_a_cell_of_fewer_seeds_is_marked() -> None:
    lines = text([Cell("bis", "0.05", "hard", 0.1, 1200, (0.81, 0.812)), *CELLS[1:]]).splitlines()
    assert lines[1].split()[3:7] == ["0.811", "(2)", "±", "0.013"]
    assert "mean of 3 seeds ± half of the 95% interval; of fewer seeds where a number in" in "\n".join(lines)
    assert "fewer" not in text([*CELLS[:2], CELLS[3]])


def test_the_position_alone_has_a_row_and_warns_of_models_that_are_no_better() -> None:
    lines = text(CELLS, position=0.8305).splitlines()
    assert lines[4].split() == ["by", "position", "alone", *["0.831"] * 3]
    assert lines[-1].startswith("warning: all the data give an auc of 0.831 (0.8")
    assert "not surely above" in lines[-1]
    assert "warning" not in text(CELLS, position=0.6)


def test_more_fractions_than_fit_are_in_a_second_table() -> None:
    cells = [
        Cell("random", "", "hard", share / 10, 1200 * share, (0.7 + share / 100,) * 3)
        for share in range(1, 9)
    ]
    lines = text(cells).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("auc")] == ["10%", "60%"]
    assert all(len(line) <= 100 for line in lines[:5])


def test_the_answer_names_a_strategy_and_a_fraction() -> None:
    said = text(CELLS).splitlines()[-2:]
    assert said[0].startswith("all the data: 0.831 (0.8")
    assert said[1].startswith(
        "enough, within 0.01 of all the data with 95% confidence: bis α 0.05 at 25% (3,000 rollouts) has "
        "0.832, 0.001 above all the data"
    )


def test_the_answer_may_be_that_nothing_is_enough() -> None:
    said = text([CELLS[0], *CELLS[2:]]).splitlines()[-1]
    assert said.startswith(
        "no fraction below 50% is enough here, with 95% confidence: all that were tried are at least 0.01"
    )
    assert "the best, bis α 0.05 at 10% (1,200 rollouts) has 0.812, 0.019 below all the data" in said


def test_the_answer_may_be_that_neither_is_shown() -> None:
    said = text([CELLS[0], *CELLS[2:]], delta=0.018).splitlines()[-1]
    assert said.startswith("undecided: the best, bis α 0.05 at 10%")
    assert (
        "neither is shown with 95% confidence, that one is within 0.018 of all the data or that none" in said
    )


def test_the_answer_may_be_that_no_small_fraction_was_tried() -> None:
    said = text([CELLS[3], Cell("bis", "0.05", "hard", 0.5, 6000, (0.83, 0.831))]).splitlines()
    assert said[-2].startswith("all the data: 0.831")
    assert said[-1] == "what is enough is unknown: no fraction below 50% was tried"


def test_the_answer_may_be_that_more_is_needed() -> None:
    assert "undecided: bis α 0.05 at 10%" in text([CELLS[0], *CELLS[2:]], delta=0.02)
    assert "unknown: a curve needs 3 fractions of random, found 1" in text(CELLS[:3])


def test_the_plot_has_a_line_a_selection_and_a_band_for_all_the_data() -> None:
    spec = plot(CONFIG, CELLS, answers(CELLS, AVAILABLE, 0.01, 0.95))
    assert json.loads(json.dumps(spec, allow_nan=False)) == spec
    band, lines = spec["layer"]
    assert [value["value"] for value in band["data"]["values"]] == [pytest.approx(0.831)]
    assert {point["selection"] for point in lines["data"]["values"]} == {
        "bis α 0.05",
        "random",
        "all the data",
    }
    assert all(point["low"] <= point["mean"] <= point["high"] for point in lines["data"]["values"])


def test_the_plot_of_two_objectives_has_two_panels() -> None:
    cells = [*CELLS, Cell("all", "", "soft", 1.0, 12_000, (0.8, 0.81))]
    spec = plot(CONFIG, cells, answers(cells, AVAILABLE, 0.01, 0.95))
    hard, other = spec["hconcat"]
    assert [len(layer["data"]["values"]) for layer in hard["layer"]] == [1, 4]
    assert [len(layer["data"]["values"]) for layer in other["layer"]] == [1, 1]
