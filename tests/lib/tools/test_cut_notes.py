"""What is said about a selection: ties, all-negative rollouts, an α that the paper uses for others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.handmade import DEFAULTS, Made, make_index

from bisieve._text import percent
from bisieve.cli.main import main
from bisieve.index import writer
from bisieve.index.cutoffs import all_negative
from bisieve.index.selection import read_selection, select
from bisieve.tools.cut_notes import _alpha, cut_notes, ranking_notes, selection_notes

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
    assert cut_notes(index, fraction) == notes
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
