"""What is said about a selection: ties, all-negative rollouts, an odd α, a shortcut; and its statistics."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.handmade import DEFAULTS, Made, make_index
from support.piped_lines import joined, too_wide

import bisieve
from bisieve._text import percent
from bisieve.cli.main import main
from bisieve.index import writer
from bisieve.index.cutoffs import all_negative
from bisieve.index.selection import read_selection, select
from bisieve.index.statistics import SHORTCUT_MARGIN, Statistics, statistics_of
from bisieve.ranking.strategies import strategy_names
from bisieve.report.verdict import _shortcut
from bisieve.tools.selection_notes import (
    _alpha,
    ranking_notes,
    selection_notes,
    shortcut_notes,
    ties_and_notes,
)

MIXED, GOOD, FAIR = (1.0, 0.0), (1.0,), (0.5,)
ROLLOUTS = [Made("a", f"a-{n}", scores) for n, scores in enumerate([MIXED] * 2 + [GOOD] * 7 + [FAIR])]


FILE = "best 50%: 3 of 5 are ties at BIS 0.0500, chosen from 7 by file order; see --ties spread"
BY_R = "best 50%: 5 of 5 are ties by reliable, chosen from 9 by file order; see --ties spread"
BY_MIXTURE = "best 50%: 3 of 5 are ties by mixed, chosen from 8 by a seeded hash"  # which has no --ties
OF_GROUPS = (
    "best 50%: {} of 5 are ties by {}, chosen by file order; in reverse others would be; see --ties spread"
)
SPREAD = "best 50%: 3 of 5 are ties at BIS 0.0500, chosen from 7 question by question"
TENTH = "best 10%: 1 of 1 are ties at BIS 0.3000, chosen from 2 by file order; see --ties spread"
OF_A_TENTH = "best 10%: 1 of 1 are ties at BIS 0.6500, chosen from 2 by file order; see --ties spread"
OF_A_TENTH_BY_5 = "best 10%: 1 of 1 are ties at BIS 5.2500, chosen from 2 by file order; see --ties spread"
TOO_LARGE = "best 10%: alpha is 5, the paper's for 10% is 0.2; --alpha 0.2 selects by that"
FOR_A_TENTH = "best 10%: alpha is 0.05, the paper's for 10% is 0.2; --alpha 0.2 selects by that"
FOR_MORE = "best 20%: alpha is 0.2, the paper's for 25% is 0.05; --alpha 0.05 selects by that"


@pytest.mark.parametrize(
    ("fraction", "options", "notes"),
    [
        (0.2, {}, []),
        (0.5, {}, [FILE]),
        (0.5, {"ties": "spread"}, [SPREAD]),
        (0.9, {}, []),
        (0.5, {"strategy": "random"}, []),
        (0.5, {"strategy": "all"}, []),
        (0.5, {"strategy": "difficulty"}, []),
        (0.5, {"strategy": "reliable"}, [BY_R]),
        (0.5, {"strategy": "mixed"}, [BY_MIXTURE]),
        (0.5, {"strategy": "stratified"}, [OF_GROUPS.format(4, "stratified")]),
        (0.5, {"strategy": "paired"}, [OF_GROUPS.format(3, "paired")]),
        (1.0, {"strategy": "paired"}, []),
        (0.1, {}, [TENTH, FOR_A_TENTH]),
        (0.2, {"alpha": 0.2}, [FOR_MORE]),
        (0.1, {"alpha": 0.4}, [OF_A_TENTH]),
        (0.1, {"alpha": 5.0}, [OF_A_TENTH_BY_5, TOO_LARGE]),
        (1.0, {"alpha": 0.2}, []),
        (1.0, {"alpha": 5.0}, []),
    ],
)
def test_a_selection_has_these_notes(
    fraction: float, options: dict[str, Any], notes: list[str], tmp_path: Path
) -> None:
    index = make_index(tmp_path, ROLLOUTS, replace(DEFAULTS, **options))
    assert ties_and_notes(index, fraction)[1] == notes
    if options:  # a selection from an index that is ranked otherwise has the same
        index = make_index(tmp_path / "as it is", ROLLOUTS)
        (made, *found) = selection_notes(select(index, fraction, options), index)
        assert made.startswith(f"best {percent(fraction)}: selected by ")
        assert found == notes


@pytest.mark.parametrize(
    ("fraction", "alpha", "papers"),
    [
        (0.1, 0.05, 0.2), (0.1, 0.1, None), (0.1, 0.4, None), (0.1, 0.5, 0.2),
        (0.17, 0.01, 0.2), (0.17, 0.05, None), (0.17, 0.4, None), (0.17, 1.0, 0.2),
        (0.5, 0.0, 0.05), (0.5, 0.1, None), (0.5, 0.11, 0.05), (1.0, 0.5, None),
    ],
)  # fmt: skip
def test_an_alpha_far_from_the_papers_is_noted(fraction: float, alpha: float, papers: float | None) -> None:
    found = _alpha(replace(DEFAULTS, alpha=alpha), fraction)
    assert bool(found) == (papers is not None)
    assert not found or found[0].endswith(f"--alpha {papers:g} selects by that")


def test_pairs_that_a_corpus_does_not_have_are_noted(tmp_path: Path) -> None:
    """Without partners `paired` selects as `bis` does."""
    lengths = [(1.0,) * n + (0.0,) for n in range(1, 11)]
    partners = [(1.0,) * 2, (1.0,) * 3]  # for the rollouts of two and of three steps
    made = [Made("a", f"a-{n}", scores) for n, scores in enumerate([*lengths, *partners])]
    index = make_index(tmp_path, made)
    noted = (
        "best 100%: 2 all-positive partners for 10 mixed rollouts (--pair-share 1): there are no more of "
        "their questions, nor of their source and number of steps"
    )
    assert noted in selection_notes(select(index, 1.0, {"strategy": "paired"}), index)
    fewer = [Made("a", f"a-{n}", scores) for n, scores in enumerate([*lengths[:2], *partners])]
    index = make_index(tmp_path / "fewer", fewer)
    for fraction in (0.25, 0.75, 1.0):  # at 25 % and 75 % a mixed rollout is selected without its partner
        notes = selection_notes(select(index, fraction, {"strategy": "paired"}), index)
        assert not [note for note in notes if "partners" in note]


def test_an_automatic_alpha_is_always_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [Made("a", f"e-{n}", tuple(1.0 * (place != n % 8) for place in range(8))) for n in range(80)]
    url = make_index(tmp_path, made).url  # by an alpha of 0.05, which --alpha auto finds, too
    words = ["report", "--index", url, "--fraction", "10%", "--alpha", "auto"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "best 10%: selected by alpha 0.05, as --alpha auto found" in lines
    assert FOR_A_TENTH in lines
    assert main([*words, "--html", str(tmp_path / "page.html")]) == 0
    assert "alpha 0.05, as --alpha auto found" in capsys.readouterr().out


WRONG = (0.0, 0.0)
THIRDS = [Made(f"s{n % 2}", f"r-{n}", (MIXED, WRONG, GOOD)[n % 3]) for n in range(90)]
NEGATIVES = "best 50%: 7 of 44 have no positive step (15.9%); --all-negative drop leaves them out"


@pytest.mark.parametrize("scope", ["source", "global"])
@pytest.mark.parametrize("all_negatives", ["keep", "last", "drop"])
def test_rollouts_without_a_positive_step_are_counted_as_they_are(
    scope: str, all_negatives: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 20)
    index = make_index(tmp_path, THIRDS, replace(DEFAULTS, scope=scope, all_negative=all_negatives))
    for fraction in (0.1, 0.5, 0.8, 1.0):
        rows = read_selection(index, fraction).rows
        assert index.selected(fraction) == rows.num_rows
        assert all_negative(index, fraction) == rows["num_positive"].to_pylist().count(0)
        assert (all_negatives == "drop") <= (all_negative(index, fraction) == 0)


def test_their_share_is_noted_unless_it_is_zero(tmp_path: Path) -> None:
    index = make_index(tmp_path, THIRDS)
    assert NEGATIVES in ranking_notes(index, 0.5)
    assert NEGATIVES in selection_notes(select(index, 0.5, {}), index)
    for asked in ({"strategy": "random"}, {"alpha": 0.2}):
        selection = select(index, 0.5, asked)
        count = selection.rows["num_positive"].to_pylist().count(0)
        assert any(
            f": {count} of 44 have no positive step" in note for note in selection_notes(selection, index)
        )
    without = select(index, 0.5, {"all_negative": "drop"})
    assert not any("no positive step" in note for note in selection_notes(without, index))
    assert not any("no positive step" in note for note in ranking_notes(index, 0.1))


def test_commands_print_it(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shard = write_jsonl("a.jsonl", [rollout(WRONG) for _ in range(8)])
    index = str(tmp_path / "index")
    note = "best 25%: 2 of 2 have no positive step (100.0%); --all-negative drop leaves them out"
    for words in (
        ["score", "--input", str(shard), "--index", index],
        ["rank", "--index", index, "--output", index, "--strategy", "random"],
        ["export", "--index", index, "--fraction", "25%", "--output", str(tmp_path / "best.jsonl")],
        ["report", "--index", index],
    ):
        assert main(words) == 0
        assert note in capsys.readouterr().out.splitlines()


# Ten rollouts whose errors are absorbed, and many with an error anywhere: the best fifth is the former.
ABSORBED = [Made("a", f"a-{n}", (1.0, 1.0, 0.0, 0.0)) for n in range(10)]
ANYWHERE = [Made("a", f"b-{n}", tuple(0.3 * (j != n % 4) for j in range(4))) for n in range(40)]
TOLD = (
    "best 20%: the position of a step alone tells its label (AUC 1.00, corpus 0.62); a model can "
    "learn that alone: compare it with the position baseline of bisieve evaluate"
)
NOTE = f"{TOLD}; --strategy paired and --alpha auto weaken it"


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
