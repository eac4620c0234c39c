"""A selection by other options than the index's is the one that an index ranked by them would give."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import reference
from support.handmade import DEFAULTS, Made, make_index

import bisieve
from bisieve.cli.main import main
from bisieve.errors import UsageError
from bisieve.index import writer
from bisieve.index.cutoffs import cutoff_ties
from bisieve.index.reader import Index, open_index
from bisieve.index.selection import GRID, differences, read_selection, select, selection_ties
from bisieve.index.statistics import SHORTCUT_MARGIN, statistics_of
from bisieve.local.engine import local_engine
from bisieve.pipeline.rank import rank_index
from bisieve.ranking.strategies import with_overrides

ASKED: list[dict[str, Any]] = [
    {"alpha": 0.2, "threshold": 0.3},
    {"strategy": "random", "scope": "global", "seed": 4},
    {"strategy": "paired", "pair_share": 0.5, "ties": "spread"},
    {"strategy": "stratified", "all_negative": "last"},
    {"strategy": "posterior", "ties": "hash", "all_negative": "drop"},
    {"strategy": "difficulty"},
    {"strategy": "reliable"},
    {"strategy": "mixed", "seed": 2, "all_negative": "last"},
    {"strategy": "low_mc", "scope": "global"},
]


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_it_has_the_rows_and_the_fingerprint_of_the_index_that_rank_writes(
    asked: dict[str, Any], score: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 60)
    reference.write_random_corpus(tmp_path / "corpus", seed=5, sizes={"big": 150, "small": 7, "one": 1})
    score(tmp_path / "corpus", tmp_path / "index")
    index = open_index(str(tmp_path / "index"))
    rank_index(
        local_engine, index, with_overrides(index.manifest.parameters, asked), str(tmp_path / "ranked")
    )
    ranked = open_index(str(tmp_path / "ranked"))
    for fraction in (0.1, 0.37, 1.0):
        found, wanted = select(index, fraction, asked), read_selection(ranked, fraction)
        assert found.rows.combine_chunks().equals(wanted.rows.combine_chunks())
        assert (found.fingerprint, found.parameters) == (wanted.fingerprint, wanted.parameters)
        assert (found.available, found.shards) == (wanted.available, wanted.shards)
        assert differences(found, index).items() <= asked.items()
        if (told := cutoff_ties(ranked, fraction)) is not None:
            ties = selection_ties(found, index)
            assert ties is not None
            assert ties.numbers() == told.numbers()


RIGHT, WRONG, FAIR, MIXED = (1.0, 1.0), (0.0, 0.0), (0.5, 0.5), (1.0, 0.0)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    kinds = [MIXED, RIGHT, WRONG, FAIR, RIGHT]
    return make_index(tmp_path, [Made("a", f"a-{n}", kinds[n % 5]) for n in range(100)])


def test_without_other_options_the_index_is_read_as_it_is(index: Index) -> None:
    for asked in ({}, {"strategy": "bis", "alpha": 0.05, "ties": "file"}):
        found = select(index, 0.1, asked)
        assert found.fingerprint == read_selection(index, 0.1).fingerprint
        assert found.ties is None
        assert differences(found, index) == {}


@pytest.mark.parametrize("scope", ["source", "global"])
@pytest.mark.parametrize("all_negative", ["keep", "last", "drop"])
def test_ties_are_those_that_an_index_tells(
    all_negative: str, scope: str, index: Index, tmp_path: Path
) -> None:
    asked = {"alpha": 0.2, "all_negative": all_negative, "scope": scope}
    parameters = replace(DEFAULTS, **asked)
    rank_index(local_engine, index, parameters, str(tmp_path / "ranked"))
    ranked = open_index(str(tmp_path / "ranked"))
    for fraction in (0.1, 0.3, 0.5, 0.9):
        ties = select(index, fraction, asked).ties
        assert ties is not None
        assert ties.numbers() == cutoff_ties(ranked, fraction).numbers()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"alpha": -1.0}, "an --alpha from 0 on; found -1"),
        ({"alpha": math.nan}, "an --alpha from 0 on; found nan"),
        ({"threshold": 1.0}, r"a --threshold in \[0, 1\); found 1"),
        ({"strategy": "pared"}, r"did you mean paired\?"),
        ({"ties": "fair"}, "one of file, hash, spread as ties; found fair"),
        ({"all_negative": "no"}, "one of keep, last, drop as all_negative; found no"),
        ({"reading": "x"}, "one of strategy, alpha, .*; found reading"),
        ({"pair_share": 0.5}, "--pair-share with --strategy paired; found bis"),
        ({"strategy": "paired", "pair_share": 2.0}, r"a --pair-share in \[0, 1\]; found 2"),
        ({"strategy": "mixed", "alpha": 0.3}, "depends on alpha; found --strategy mixed; leave out --alpha"),
        (
            {"seed": 3},
            "--ties hash or .* random order; found --strategy bis; leave out --selection-seed",
        ),
        ({"strategy": "random", "ties": "hash"}, "no --ties for an index of strategy random; found hash"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(asked: dict[str, Any], message: str, index: Index) -> None:
    with pytest.raises(UsageError, match=message):
        select(index, 0.1, asked)


def absorbed(number: int, score: float = 1.0) -> Made:
    """A rollout whose second half is wrong."""
    return Made("a", f"m-{number}", (score, score, 0.0, 0.0))


def anywhere(number: int) -> Made:
    """A rollout with an error at any place."""
    return Made("a", f"e-{number}", tuple(1.0 * (place != number % 8) for place in range(8)))


def test_alpha_auto_is_the_smallest_of_the_grid_without_a_shortcut(tmp_path: Path) -> None:
    # By BIS the former are better up to an alpha of 0.1: (0.25 + α)·0.6 > 7/64 + α.
    index = make_index(tmp_path, [*(absorbed(n, 0.6) for n in range(20)), *(anywhere(n) for n in range(180))])
    corpus = statistics_of(read_selection(index, 1.0).rows).shortcut
    shortcuts = [statistics_of(select(index, 0.1, {"alpha": alpha}).rows).shortcut for alpha in GRID[:3]]
    assert GRID[:3] == (0.05, 0.1, 0.2)
    assert [its <= corpus + SHORTCUT_MARGIN for its in shortcuts] == [False, False, True]
    found = select(index, 0.1, {"alpha": "auto"})
    assert found.parameters.alpha == 0.2
    assert found.fingerprint == select(index, 0.1, {"alpha": 0.2}).fingerprint
    assert select(index, 1.0, {"alpha": "auto"}).parameters.alpha == 0.05


def test_alpha_auto_counts_a_shortcut_the_other_way_round(tmp_path: Path) -> None:
    backwards = [each._replace(scores=each.scores[::-1]) for each in (absorbed(n, 0.6) for n in range(20))]
    index = make_index(tmp_path, [*backwards, *(anywhere(n) for n in range(180))])
    assert statistics_of(select(index, 0.1, {"alpha": 0.05}).rows).shortcut == 0.0
    assert select(index, 0.1, {"alpha": "auto"}).parameters.alpha == 0.2


def test_alpha_auto_says_when_no_alpha_will_do(tmp_path: Path) -> None:
    made = [absorbed(n) for n in range(50)] + [Made("a", f"r-{n}", (0.0, 1.0)) for n in range(50)]
    index = make_index(tmp_path, made)
    with pytest.raises(
        UsageError, match=r"at most 0\.\d\d from 0\.5; found 0\.50 at best; .* --strategy stratified"
    ):
        select(index, 0.1, {"alpha": "auto"})


@pytest.mark.parametrize("strategy", ["random", "mixed", "reliable", "low_mc", "difficulty", "all"])
def test_alpha_auto_is_refused_where_alpha_changes_nothing(strategy: str, tmp_path: Path) -> None:
    index = make_index(tmp_path, [absorbed(n) for n in range(20)])
    with pytest.raises(UsageError, match=f"depends on alpha; found --strategy {strategy}; .*--strategy bis"):
        select(index, 0.5, {"alpha": "auto", "strategy": strategy})


def test_alpha_auto_needs_both_labels(tmp_path: Path) -> None:
    index = make_index(tmp_path, [Made("a", f"r-{n}", (1.0, 1.0)) for n in range(20)])
    with pytest.raises(UsageError, match=r"positive and negative steps.*found only one kind"):
        select(index, 0.5, {"alpha": "auto"})


def test_the_api_and_the_commands_select_by_other_options(
    score: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=5, sizes={"big": 60})
    score(tmp_path / "corpus", tmp_path / "index")
    url, asked = str(tmp_path / "index"), {"strategy": "paired", "all_negative": "drop"}
    opened = bisieve.open_index(url)
    selection = opened.select("20%", **asked)
    assert (selection.parameters.strategy, selection.parameters.all_negative) == ("paired", "drop")
    assert selection.statistics.all_negative == 0
    assert selection.notes == [
        "best 20%: selected by strategy paired, all negative drop",
        "best 20%: 2 of 12 are ties by paired, chosen by file order; in reverse others would be; see --ties "
        "spread",
    ]
    assert selection.write_jsonl(str(tmp_path / "api.jsonl")) == len(selection) == 12
    flags = ["--strategy", "paired", "--all-negative", "drop"]
    words = ["export", "--index", url, "--fraction", "20%", "--output", str(tmp_path / "command.jsonl")]
    assert main([*words, *flags]) == 0
    assert selection.notes[0] in capsys.readouterr().out.splitlines()
    assert (tmp_path / "command.jsonl").read_bytes() == (tmp_path / "api.jsonl").read_bytes()
    assert main(["report", "--index", url, "--fraction", "20%", *flags]) == 0
    shown = capsys.readouterr().out
    assert selection.notes[0] in shown.splitlines()
    assert opened.report([0.2], **asked) + "\n" == shown
    (cut,) = opened.numbers([0.2], **asked)["cuts"]
    assert cut["statistics"] == selection.statistics.numbers()
    assert cut["parameters"]["strategy"] == "paired"
    with pytest.raises(UsageError, match="by bisieve rank, and compare that"):
        bisieve.compare(selection, opened.select("20%"))
    with pytest.raises(UsageError, match="an --alpha from 0 on"):
        opened.select("20%", alpha=-1)
    assert open_index(url).fingerprint == opened.fingerprint, "the index is as it was"
