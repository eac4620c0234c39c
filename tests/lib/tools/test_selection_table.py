"""Statistics of selections beside those of the corpus, and the note on a shortcut."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.handmade import Made, make_index
from support.piped_lines import joined, too_wide

import bisieve
from bisieve.cli.main import main
from bisieve.index.statistics import SHORTCUT_MARGIN, Statistics, statistics_of
from bisieve.ranking.strategies import strategy_names
from bisieve.report.verdict import _shortcut
from bisieve.tools.selection_table import shortcut_notes

# Ten rollouts whose errors are absorbed, and many with an error anywhere: the best fifth is the former.
ABSORBED = [Made("a", f"a-{n}", (1.0, 1.0, 0.0, 0.0)) for n in range(10)]
ANYWHERE = [Made("a", f"b-{n}", tuple(0.3 * (j != n % 4) for j in range(4))) for n in range(40)]
TOLD = (
    "best 20%: the position of a step alone tells its label (AUC 1.00, corpus 0.62); a model can "
    "learn that alone: compare it with the position baseline of bisieve evaluate"
)
NOTE = f"{TOLD}; --alpha auto looks for a selection without it"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return make_index(tmp_path, [*ABSORBED, *ANYWHERE]).url


def test_report_shows_selections_beside_the_corpus(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--index", url, "--fraction", "20%", "1.0"]) == 0
    lines = joined(capsys.readouterr().out).splitlines()
    cells = {line[:23].strip(): line[23:].split() for line in lines}
    assert lines[2].endswith("  corpus  best 20%  best 100%")
    assert cells["rollouts"] == ["50", "10", "50"]
    assert cells["questions"] == ["3", "3", "3"]
    assert cells["negative steps"] == ["30.0%", "50.0%", "30.0%"]
    assert cells["in the last fifth"] == ["40.0%", "100.0%", "40.0%"]
    assert cells["AUC of position → label"] == ["0.62", "1.00", "0.62"]
    assert NOTE in lines


def test_alpha_auto_is_named_only_where_it_is_accepted(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", "--index", url, "--fraction", "20%", "--strategy"]
    assert main([*words, "mixed"]) == 0
    printed = capsys.readouterr().out
    assert too_wide(printed) == []
    assert TOLD in joined(printed).splitlines()
    page = ["--html", str(tmp_path / "page.html"), "--json"]
    for strategy in set(strategy_names()) - {"posterior"}:  # which needs counts
        for more in ([], page):
            assert main([*words, strategy, *more]) == 0
            if "--alpha auto" in capsys.readouterr().out:
                main([*words, strategy, "--alpha", "auto"])
                assert "depends on alpha" not in capsys.readouterr().err


def test_the_corpus_is_the_one_without_what_is_left_out(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ids.txt").write_text("".join(f"a-{n}\n" for n in range(10)))
    words = ["report", "--index", url, "--fraction", "20%", "--exclude", str(tmp_path / "ids.txt")]
    assert main([*words, "--json"]) == 0
    rest = make_index(tmp_path / "rest", ANYWHERE)
    assert (
        json.loads(capsys.readouterr().out)["corpus"] == bisieve.open_index(rest.url).statistics().numbers()
    )
    assert main(words) == 0
    lines = joined(capsys.readouterr().out).splitlines()
    assert next(line.split() for line in lines if line.startswith("rollouts  "))[1:] == ["40", "8"]


def test_json_and_the_api_have_the_same_numbers(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--index", url, "--fraction", "20%", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (cut,) = found["cuts"]
    index = bisieve.open_index(url)
    assert found["corpus"] == index.statistics().numbers()
    assert cut["statistics"] == index.select(0.2).statistics.numbers()
    assert cut["statistics"]["position_auc"] == 1.0
    assert NOTE in cut["notes"]


def test_a_run_reads_no_rollouts_again_for_its_summary(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rank", "--index", url, "--output", str(tmp_path / "new"), "--quiet"]) == 0
    assert "AUC" not in capsys.readouterr().out


def with_auc(auc: float) -> Statistics:
    """Statistics of a thousand negative steps in the middle, and of positive ones before and behind it."""
    before = round(1000 * auc)
    labels = np.array([[0, before], [1000, 0], [0, 1000 - before]])
    found = Statistics(1000, 1000, 0, 0, 1, 1000, np.array([0.1, 0.5, 0.9]), labels)
    assert found.shortcut == pytest.approx(auc)
    return found


# The position tells as much at 0.14 as at 0.86.
@pytest.mark.parametrize(
    ("corpus", "selection", "noted"),
    [
        (0.6, 0.6 + SHORTCUT_MARGIN + 0.01, True),
        (0.6, 0.6 + SHORTCUT_MARGIN - 0.01, False),
        (0.36, 0.14, True),
        (0.36, 0.22, False),
        (0.14, 0.86, False),
        (0.36, 0.9, True),
        (0.9, 0.5, False),
    ],
)
def test_the_note_begins_at_a_margin_to_either_side(corpus: float, selection: float, noted: bool) -> None:
    statistics = with_auc(corpus), with_auc(selection)
    assert bool(shortcut_notes(*statistics, 0.1, "bis")) == noted
    assert (_shortcut(*statistics).mood == "warning") == noted


def test_a_selection_without_negative_steps_has_no_shortcut() -> None:
    table = pa.table({"question_id": ["q"], "scores": pa.array([[1.0, 1.0]], pa.list_(pa.float64()))})
    assert shortcut_notes(statistics_of(table), statistics_of(table), 0.1, "bis") == []
