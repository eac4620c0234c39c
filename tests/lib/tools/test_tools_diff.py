"""Two selections compared: against an oracle in plain Python, over many pairs of small indexes."""

import random
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.handmade import DEFAULTS, Made, make_index

from bisieve.errors import UsageError
from bisieve.index.selection import read_selection
from bisieve.records.options import Parameters
from bisieve.tools.diff import CHANGES, ENTERED, LEFT, Side, SourceDiff, compare

SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=3).map(tuple)
ROLLOUTS = st.builds(Made, st.sampled_from("pq"), st.sampled_from("abcdefgh"), SCORES)
FRACTION = st.sampled_from([0.1, 0.3, 0.5, 1.0])
FRACTIONS = st.one_of(FRACTION.map(lambda one: (one, one)), st.tuples(FRACTION, FRACTION))
PARAMETERS = st.builds(
    lambda **changed: replace(DEFAULTS, **changed),
    alpha=st.sampled_from([0.05, 0.2]),
    threshold=st.sampled_from([0.0, 0.3]),
    scope=st.sampled_from(["source", "global"]),
    strategy=st.sampled_from(["bis", "bis", "low_mc"]),
    ties=st.sampled_from(["file", "hash", "spread"]),
    seed=st.sampled_from([0, 1]),
)


def rows_of(side: Side, fraction: float) -> dict[tuple[str, str, int], dict[str, Any]]:
    """The selection's rows by source, id and copy; a copy's number counts all copies in the index, by
    place."""
    whole = read_selection(side.index, 1.0).rows.to_pylist()
    places: dict[tuple[str, str], list[int]] = {}
    for row in whole:
        places.setdefault((row["source"], row["rollout_id"]), []).append(row["spans"][0]["offset"])
    chosen = {row["spans"][0]["offset"] for row in read_selection(side.index, fraction).rows.to_pylist()}
    return {
        (*key, sorted(places[key]).index(row["spans"][0]["offset"])): row
        for row in whole
        if (key := (row["source"], row["rollout_id"])) and row["spans"][0]["offset"] in chosen
    }


def ranked_by(row: dict[str, Any], parameters: Parameters) -> tuple[Any, ...]:
    """All of a rollout and its index that decides about its rank, but not the other rollouts."""
    mean = sum(row["scores"]) / len(row["scores"])
    key = row["bis"] if parameters.strategy == "bis" else mean
    seed = parameters.seed if parameters.ties == "hash" else None
    return key, parameters.strategy, parameters.scope, parameters.ties, seed


def expected(a: Side, b: Side) -> dict[tuple[str, str, int, str], str]:
    """The reason of each rollout that is in one selection alone, by the rules of docs/reference/diff.md."""
    all_a, all_b = rows_of(a, 1.0), rows_of(b, 1.0)
    in_a, in_b, in_b_as_a = rows_of(a, a.fraction), rows_of(b, b.fraction), rows_of(b, a.fraction)
    found = {}
    for name in in_a.keys() ^ in_b.keys():
        left = name in in_a
        if name not in all_a or name not in all_b:
            reason = "gone" if left else "new rollout"
        elif (name in in_a) == (name in in_b_as_a):
            reason = "fraction"
        elif all_a[name]["scores"] != all_b[name]["scores"]:
            reason = "score changed"
        elif ranked_by(all_a[name], a.index.manifest.parameters) != ranked_by(
            all_b[name], b.index.manifest.parameters
        ):
            reason = "parameters"
        else:
            reason = "crowded out" if left else "made room"
        found[*name, "left" if left else "entered"] = reason
    return found


def found(diffs: list[SourceDiff], a: Side, b: Side) -> dict[tuple[str, str, int, str], str]:
    copies = {
        side: {(row["source"], row["spans"][0]["offset"]): name for name, row in rows_of(of, 1.0).items()}
        for side, of in (("left", a), ("entered", b))
    }
    rows = [row for diff in diffs for row in diff.changes.to_pylist()]
    named = {
        (*copies[row["change"]][row["source"], row["offset"]], row["change"]): row["reason"] for row in rows
    }
    assert len(named) == len(rows)  # nobody is told of twice
    return named


@settings(max_examples=50)
@given(
    st.lists(ROLLOUTS, min_size=1, max_size=30),
    st.lists(ROLLOUTS, max_size=5),
    st.tuples(PARAMETERS, PARAMETERS),
    st.booleans(),
    FRACTIONS,
    st.randoms(use_true_random=False),
)
def test_every_rollout_in_one_selection_only_has_the_one_reason_that_the_rules_give(
    rollouts: list[Made],
    new: list[Made],
    parameters: tuple[Parameters, Parameters],
    same_parameters: bool,
    fractions: tuple[float, float],
    rng: random.Random,
) -> None:
    later = [
        made._replace(scores=(0.5, 0.0)) if rng.random() < 0.1 else made
        for made in (*rollouts, *new)
        if rng.random() < 0.8
    ] or rollouts
    if rng.random() < 0.3:
        rng.shuffle(later)
    with tempfile.TemporaryDirectory() as folder:
        first = make_index(Path(folder, "a"), rollouts, parameters[0])
        second = make_index(Path(folder, "b"), later, parameters[0 if same_parameters else 1])
        a, b = Side(first, fractions[0]), Side(second, fractions[1])
        diffs = list(compare(a, b))
        assert found(diffs, a, b) == expected(a, b)
        in_a, in_b = rows_of(a, a.fraction), rows_of(b, b.fraction)
    for diff in diffs:
        mine, theirs = ({name for name in selection if name[0] == diff.source} for selection in (in_a, in_b))
        assert (diff.in_a, diff.in_b, diff.kept) == (len(mine), len(theirs), len(mine & theirs))
        changes = Counter(diff.changes["change"].to_pylist())
        assert (changes["left"], changes["entered"]) == (len(mine - theirs), len(theirs - mine))
    assert [diff.source for diff in diffs] == sorted({made.source for made in (*rollouts, *later)})


def test_an_index_does_not_differ_from_itself(tmp_path: Path) -> None:
    index = make_index(tmp_path, [Made("p", f"{n}", (n / 10, 0.0)) for n in range(10)])
    (diff,) = compare(Side(index, 0.5), Side(index, 0.5))
    assert (diff.in_a, diff.in_b, diff.kept) == (5, 5, 5)
    assert diff.changes.equals(CHANGES.empty_table())


def test_a_row_tells_place_ranks_and_scores_on_both_sides(tmp_path: Path) -> None:
    a = make_index(tmp_path / "a", [Made("p", "x", (1.0, 0.0)), Made("p", "y", (0.5, 0.0))])
    b = make_index(tmp_path / "b", [Made("p", "y", (0.5, 0.0)), Made("p", "x", (0.25, 0.0))])
    (diff,) = compare(Side(a, 0.5), Side(b, 0.5))
    left, entered = diff.changes.to_pylist()
    assert left == {
        "source": "p", "rollout_id": "x", "change": "left", "reason": "score changed",
        "rank_a": 1, "rank_b": 2, "bis_a": (0.25 + 0.05) * 1.0, "bis_b": (0.25 + 0.05) * 0.25,
        "shard": "file:///p.jsonl", "offset": 0,
    }  # fmt: skip
    assert (entered["rollout_id"], entered["reason"], entered["offset"]) == ("y", "made room", 0)
    assert (entered["rank_a"], entered["rank_b"]) == (2, 1)


def test_reasons_come_in_mirrored_pairs() -> None:
    assert len(LEFT) == len(ENTERED)
    assert LEFT[1:4] == ENTERED[1:4]


@pytest.mark.parametrize("fractions", [(0.0, 0.5), (0.5, 1.5)])
def test_a_fraction_outside_its_range_is_refused(tmp_path: Path, fractions: tuple[float, float]) -> None:
    index = make_index(tmp_path, [Made("p", "x", (1.0,))])
    with pytest.raises(UsageError, match=r"\(0, 1\]"):
        list(compare(*(Side(index, fraction) for fraction in fractions)))


def test_a_source_in_many_files_and_groups_is_compared_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bisieve.index.writer.ROWS_PER_FILE", 32)
    monkeypatch.setattr("bisieve.index.writer.ROWS_PER_GROUP", 5)
    made = [Made("pqr"[n % 3], f"{n:03}", (1.0, n / 100)) for n in range(100)]
    a = make_index(tmp_path / "a", made)
    b = make_index(tmp_path / "b", made[3:], replace(DEFAULTS, alpha=0.2))
    rows = pa.concat_tables(diff.changes for diff in compare(Side(a, 1.0), Side(b, 1.0)))
    assert rows["reason"].to_pylist() == ["gone"] * 3
    assert rows["source"].to_pylist() == ["p", "q", "r"]
