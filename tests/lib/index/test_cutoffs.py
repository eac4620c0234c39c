"""Where a selection ends, and how many of its rollouts are there by the rule for ties alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import reference
from support.handmade import DEFAULTS, Made, make_index

from bisieve.errors import UsageError
from bisieve.index import cutoffs, writer
from bisieve.index.cutoffs import cutoff_scores, cutoff_ties
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection, select, selection_ties
from bisieve.ranking import order
from bisieve.ranking.order import ranking_key, selection_limits
from bisieve.ranking.strategies import strategy_names, strategy_of
from bisieve.tools.report import score_report


@pytest.mark.parametrize("scope", ["source", "global"])
def test_ties_are_counted_as_in_the_whole_table(
    scope: str, score: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=5, sizes={"big": 250, "small": 7, "one": 1})
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 60)
    monkeypatch.setattr(writer, "ROWS_PER_GROUP", 16)
    score(tmp_path / "corpus", tmp_path / "index", scope=scope)
    index = open_index(str(tmp_path / "index"))
    rows = pa.concat_tables([pq.read_table(tmp_path / "index" / file.path) for file in index.files])
    seen = 0
    for fraction in (0.01, 0.05, 0.1, 0.25, 0.3, 0.5, 0.9, 1.0):
        found = cutoff_ties(index, fraction)
        limits = selection_limits(index.rollouts_by_source, scope, fraction)
        source, rank, bis = (rows[name].to_numpy() for name in ("source", "rank", "bis"))
        kept = rank <= np.array([limits[name] for name in source])
        selected = tied = left_out = 0
        groups = [np.ones(len(bis), bool)] if scope == "global" else [source == name for name in limits]
        for group in groups:
            selected += int((group & kept).sum())
            at = group & (bis == bis[group & kept].min())
            if (at & ~kept).any():
                tied += int((at & kept).sum())
                left_out += int((at & ~kept).sum())
        assert (found.selected, found.tied, found.left_out) == (selected, tied, left_out), fraction
        seen += tied
    assert seen > 20
    with pytest.raises(UsageError):
        cutoff_ties(index, 1.5)


@pytest.mark.parametrize("scope", ["source", "global"])
@pytest.mark.parametrize("strategy", ["reliable", "mixed", "low_mc", "posterior"])
def test_ties_are_those_of_what_the_strategy_ranks_by(
    strategy: str, scope: str, score: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=5, sizes={"big": 250, "small": 7, "one": 1})
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 60)
    monkeypatch.setattr(writer, "ROWS_PER_GROUP", 16)
    score(tmp_path / "corpus", tmp_path / "index", scope=scope, strategy=strategy)
    index = open_index(str(tmp_path / "index"))
    rows = pa.concat_tables([pq.read_table(tmp_path / "index" / file.path) for file in index.files])
    keys, source, rank = ranking_key(rows, index.manifest.parameters), rows["source"].to_numpy(), rows["rank"]
    seen = 0
    for fraction in (0.01, 0.1, 0.3, 0.5, 0.9, 1.0):
        limits = index.limits(fraction)
        kept = rank.to_numpy() <= np.array([limits[name] for name in source])
        tied = left_out = 0
        groups = [np.ones(len(keys), bool)] if scope == "global" else [source == name for name in limits]
        for group in groups:
            at = group & (keys == keys[group & kept].min())
            if (at & ~kept).any():
                tied, left_out = tied + int((at & kept).sum()), left_out + int((at & ~kept).sum())
        found = cutoff_ties(index, fraction)
        assert found is not None
        assert (found.selected, found.tied, found.left_out) == (int(kept.sum()), tied, left_out), fraction
        assert found.numbers()["least"] is None, "ties by another key have no common BIS"
        seen += tied
    assert seen > 0


@pytest.mark.parametrize("strategy", ["random", "all", "difficulty"])
def test_a_strategy_without_a_score_has_no_ties(strategy: str, tmp_path: Path) -> None:
    made = [Made("a", f"a-{n}", (1.0,)) for n in range(4)]
    assert cutoff_ties(make_index(tmp_path, made, replace(DEFAULTS, strategy=strategy)), 0.5) is None


def test_every_strategy_with_a_score_tells_ties_and_tells_if_there_are_none(tmp_path: Path) -> None:
    """Of an index and of a selection from another one alike; posterior needs counts of continuations."""
    equal = [Made("a", f"a-{n}", (1.0, 0.0) if n % 2 else (1.0, 1.0)) for n in range(12)]
    unlike = [Made("a", f"a-{n}", (1.0 - n / 100, (n % 2) / (n + 1))) for n in range(12)]
    names = {name for name in strategy_names() if strategy_of(name).has_score} - {"posterior"}
    assert names == {"bis", "low_mc", "mixed", "paired", "reliable", "stratified"}
    for strategy in names:
        parameters = replace(DEFAULTS, strategy=strategy)
        for made, are_ties in ((equal, True), (unlike, strategy == "mixed")):  # which knows no score
            folder = tmp_path / f"{strategy} {are_ties}"
            ties = cutoff_ties(make_index(folder, made, parameters), 0.34)
            assert ties is not None
            assert (ties.selected, ties.tied > 0) == (4, are_ties), strategy
            by_bis = make_index(folder / "by bis", made)
            selected = select(by_bis, 0.34, {"strategy": strategy})
            found = selection_ties(selected, by_bis)
            assert found is not None
            assert found.numbers() == ties.numbers(), strategy


@pytest.mark.parametrize("rule", ["file", "spread"])
@pytest.mark.parametrize("strategy", ["stratified", "paired"])
@pytest.mark.parametrize("scope", ["source", "global"])
def test_ties_inside_groups_are_those_that_a_corpus_in_reverse_order_replaces(
    scope: str, strategy: str, rule: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    scores = [tuple((rng.integers(0, 4, rng.integers(1, 4)) / 3).tolist()) for _ in range(90)]
    names = "ab" if scope == "source" else "a"  # else the order of the shards would stay
    made = [Made(names[n % len(names)], f"r-{n}", each) for n, each in enumerate(scores)]
    asked = replace(DEFAULTS, strategy=strategy, scope=scope, ties=rule)
    index = make_index(tmp_path / "one", made, asked)
    reverse = make_index(tmp_path / "two", made[::-1], asked)
    for fraction in (0.1, 0.3, 0.6):
        found = cutoff_ties(index, fraction)
        assert found is not None
        usual, turned = (
            set(read_selection(each, fraction).rows["rollout_id"].to_pylist()) for each in (index, reverse)
        )
        assert found.selected == len(usual) == len(turned)
        assert found.tied == found.left_out == len(usual - turned) > 0


def test_ties_inside_groups_of_a_large_index_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [Made("a", f"a-{n}", (1.0,)) for n in range(9)]
    index = make_index(tmp_path, made, replace(DEFAULTS, strategy="stratified"))
    assert cutoff_ties(index, 0.5) is not None
    for module in (cutoffs, order):
        monkeypatch.setattr(module, "MOST_RANKED_TWICE", 8)
    assert cutoff_ties(index, 0.5) is None
    assert selection_ties(select(index, 0.5, {"strategy": "paired"}), index) is None


def test_only_row_groups_around_the_end_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "ROWS_PER_GROUP", 10)
    made = [Made("a", f"a-{n}", (1.0 - n / 1000, 0.0)) for n in range(200)]
    index = make_index(tmp_path, made)
    read = []
    _read = cutoffs._read
    monkeypatch.setattr(cutoffs, "_read", lambda index, group: read.append(group) or _read(index, group))
    assert cutoffs.cutoff_ties(index, 0.5).tied == 0
    assert {(group.lowest, group.highest) for group in read} == {(91, 100), (101, 110)}


RIGHT, WRONG, FAIR = (1.0,), (0.0,), (0.5,)  # with alpha 0.05 the BIS is 0.05, 0.05 and 0.025


@pytest.mark.parametrize(
    ("all_negative", "fraction", "counts"),
    [
        ("keep", 0.5, (5, 5, 3)),  # right and wrong ones tie
        ("last", 0.3, (3, 3, 1)),  # only right ones do
        ("last", 0.5, (5, 1, 1)),
        ("last", 0.7, (7, 1, 3)),  # only wrong ones do
        ("drop", 0.3, (3, 3, 1)),
        ("drop", 0.9, (6, 0, 0)),
    ],
)
@pytest.mark.parametrize("scope", ["source", "global"])
def test_all_negative_rollouts_tie_with_their_like_where_they_are_last(
    scope: str, all_negative: str, fraction: float, counts: tuple[int, int, int], tmp_path: Path
) -> None:
    scores = [RIGHT, WRONG, FAIR, RIGHT, WRONG, RIGHT, WRONG, FAIR, RIGHT, WRONG]
    made = [Made("a", f"a-{n}", given) for n, given in enumerate(scores)]
    parameters = replace(DEFAULTS, all_negative=all_negative, scope=scope)
    found = cutoff_ties(make_index(tmp_path, made, parameters), fraction)
    assert (found.selected, found.tied, found.left_out) == counts


def test_a_source_of_dropped_rollouts_has_no_cutoff(tmp_path: Path) -> None:
    made = [Made("bad", f"b-{n}", WRONG) for n in range(3)] + [
        Made("good", f"g-{n}", RIGHT) for n in range(4)
    ]
    index = make_index(tmp_path, made, replace(DEFAULTS, all_negative="drop"))
    for fraction in (0.5, 0.6):  # one that the index has stored, and one that it has not
        assert cutoff_scores(index, fraction) == {"good": 0.05}
        assert cutoff_ties(index, fraction).selected == 2
    assert read_selection(index, 1.0).rows["source"].to_pylist() == ["good"] * 4
    assert "bad" in score_report(index, "URL")
    nothing = make_index(tmp_path / "bad", made[:3], replace(DEFAULTS, all_negative="drop"))
    with pytest.raises(UsageError, match="a rollout with a positive step"):
        read_selection(nothing, 1.0)
    assert score_report(nothing, "URL").splitlines()[1].split()[:2] == ["bad", "3"]
