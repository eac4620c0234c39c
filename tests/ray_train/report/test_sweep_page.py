"""The page of a sweep has its answer, a line a selection beside all the data, and every mean."""

from pathlib import Path

import pytest
from support.swept import CELLS, write_sweep

from bisieve.cli.main import main
from bisieve.errors import TrainingError
from bisieve.report.html import plain
from bisieve.report.page import Charts, Findings, Table, Tiles
from ray_train.report.sweep import page
from ray_train.sweeps.answer import Cell


def test_it_says_the_answer_and_how_sure_it_is(tmp_path: Path) -> None:
    answer = page(write_sweep(tmp_path / "sweep", CELLS)).sections[0]
    findings, tiles = answer.blocks
    assert isinstance(findings, Findings)
    assert [each.mood for each in findings.findings] == ["good", "good"]
    assert findings.findings[1].title == "Enough, within 0.01 of all the data with 95% confidence:"
    assert findings.findings[1].text.startswith("bis α 0.05 at 25% (3,000 rollouts) has 0.832, 0.001 above")
    assert isinstance(tiles, Tiles)
    assert [(each.label, each.value) for each in tiles.tiles] == [
        ("auc of all the data", "0.831"),
        ("enough", "25%"),
    ]


def test_what_is_not_enough_is_a_warning(tmp_path: Path) -> None:
    findings = page(write_sweep(tmp_path / "sweep", [CELLS[0], *CELLS[2:]])).sections[0].blocks[0]
    assert isinstance(findings, Findings)
    assert {each.mood for each in findings.findings} == {"warning"}


def test_models_that_have_learned_nothing_are_a_warning_beside_the_answer(tmp_path: Path) -> None:
    answer, _, means = page(write_sweep(tmp_path / "sweep", CELLS, position=0.85)).sections
    findings = answer.blocks[0]
    assert isinstance(findings, Findings)
    assert [each.mood for each in findings.findings] == ["warning"] * 3
    assert findings.findings[2].title == "Warning:"
    assert "not above the 0.850 of the position of a step alone" in findings.findings[2].text
    (table,) = means.blocks
    assert isinstance(table, Table)
    assert table.rows[-1] == ["by position alone", None, None, None, 0.85, None]


def test_lines_beyond_the_colours_are_in_a_second_chart_beside_random_ones(tmp_path: Path) -> None:
    more = [Cell("bis", str(alpha / 10), "hard", 0.1, 1200, (0.8, 0.81)) for alpha in range(1, 6)]
    (charts,) = page(write_sweep(tmp_path / "sweep", [*CELLS, *more])).sections[1].blocks
    assert isinstance(charts, Charts)
    lines = [{row["series"] for row in each.spec["data"]["values"]} for each in charts.charts]
    assert lines == [
        {"random", "bis α 0.05", "bis α 0.1", "bis α 0.2", "bis α 0.3"},
        {"random", "bis α 0.4", "bis α 0.5"},
    ]
    band = charts.charts[0].spec["layer"][0]
    assert band["data"]["values"][0]["value"] == pytest.approx(0.831)


def test_every_mean_is_in_the_table_and_in_the_numbers(tmp_path: Path) -> None:
    report = page(write_sweep(tmp_path / "sweep", CELLS))
    (table,) = report.sections[2].blocks
    assert isinstance(table, Table)
    found = [(cell["mean"], cell["low"], cell["high"]) for cell in plain(report.numbers)["cells"]]
    assert [mean for mean, _, _ in found] == [row[4] for row in table.rows]
    assert [row[5] for row in table.rows] == [
        "unknown" if low is None else f"{low:.3f}–{high:.3f}" for _, low, high in found
    ]
    assert [row[:4] for row in table.rows] == [
        ["bis α 0.05", 0.1, 1200, 3],
        ["bis α 0.05", 0.25, 3000, 3],
        ["random", 0.1, 1200, 1],
        ["all the data", 1.0, 12000, 3],
    ]
    assert table.rows[2][5] == "unknown"


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sweep(tmp_path / "sweep", CELLS)
    assert main(["report", "--sweep", f"{folder}/sweep.json", "--html", str(tmp_path / "s.html")]) == 0
    first, second, third, *more, last = capsys.readouterr().out.splitlines()
    assert first == "All the data: 0.831 (0.828…0.834) measured."
    assert second == "Enough, within 0.01 of all the data with 95% confidence:"
    assert (third[:15], last) == ("    bis α 0.05 ", f"page: {tmp_path}/s.html")
    assert "equivalent: nor is it better by 0.01." in " ".join(more)
    assert "Sweep report" in (tmp_path / "s.html").read_text()


@pytest.mark.parametrize("content", [b"{}", b"{", b'{"metric": "\xff"}'])
def test_another_file_is_refused_by_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_bytes(content)
    with pytest.raises(
        TrainingError, match=r"expected sweep.json of bisieve sweep at .*run bisieve sweep again"
    ):
        page(str(tmp_path))
