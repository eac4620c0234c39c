"""What a corpus and its selections look like before training; questions are counted as plain Python does."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support import reference

from bisieve.index import statistics, writer
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from bisieve.index.statistics import QuestionCounts, Tally, index_statistics, question_hashes, statistics_of

NAMES = [f"{number % 700:032x}" for number in range(3000)]
ODD = ["", "q1", "ü", "x" * 40, *NAMES[:3], "q1"]


@pytest.mark.parametrize("names", [NAMES, ODD, NAMES + ODD], ids=["usual", "odd", "both"])
@pytest.mark.parametrize("fewest", [1, 10_000])
def test_each_name_is_counted(names: list[str], fewest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_FEWEST", fewest)
    found = QuestionCounts()
    column = pa.array(names)
    for start in range(0, len(names), 250):
        found.add(question_hashes(column.slice(start, 250), 0))
    assert sorted(found.counts.tolist()) == sorted(Counter(names).values())


def test_a_name_has_one_hash_in_any_column_and_others_by_other_seeds() -> None:
    hashes = question_hashes(pa.array([*ODD, NAMES[5]]), 0)
    assert question_hashes(pa.array(NAMES[:6]), 0).tolist()[5] == hashes[-1]
    assert len(set(hashes.tolist())) == len({*ODD, NAMES[5]})
    assert not set(hashes.tolist()) & set(question_hashes(pa.array([*ODD, NAMES[5]]), 1).tolist())


def test_no_rows_have_no_questions() -> None:
    assert question_hashes(pa.array([], pa.string()), 0).tolist() == []
    assert QuestionCounts().counts.tolist() == []


def rows(*scores: list[float], questions: str = "") -> pa.Table:
    names = questions or "q" * len(scores)
    return pa.table({"question_id": list(names), "scores": pa.array(scores, pa.list_(pa.float64()))})


def test_counts_of_a_handful_of_rollouts() -> None:
    found = statistics_of(rows([1.0, 0.0], [0.5, 0.25, 0.0, 0.0], [0.0], [1.0], questions="aaba"))
    assert (found.rollouts, found.mixed, found.all_positive, found.all_negative) == (4, 2, 1, 1)
    assert (found.questions, found.most_of_a_question, found.rollouts_per_question) == (2, 3, 2.0)
    assert (found.steps, found.negative_share, found.all_negative_share) == (8, 0.5, 0.25)
    # Of two steps the middles are at 1/4 and 3/4, of four at 1/8, 3/8, 5/8 and 7/8, of one at 1/2.
    assert found.negative_by_fifth == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_a_step_is_positive_above_the_threshold() -> None:
    assert statistics_of(rows([1.0, 0.5], [0.5]), threshold=0.5).negative_share == pytest.approx(2 / 3)


def test_the_shortcut_is_the_auc_of_position() -> None:
    absorbing = rows([1.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0])
    scores = absorbing["scores"].to_pylist()
    steps = [
        ((2 * j + 1) / (2 * len(rollout)), score > 0) for rollout in scores for j, score in enumerate(rollout)
    ]
    pairs = [(good < bad) + (good == bad) / 2 for good, yes in steps if yes for bad, no in steps if not no]
    assert statistics_of(absorbing).shortcut == pytest.approx(np.mean(pairs))
    assert statistics_of(rows([1.0, 0.0], [1.0, 0.0])).shortcut == 1.0
    assert statistics_of(rows([0.0, 1.0])).shortcut == 0.0
    assert statistics_of(rows([1.0], [0.0])).shortcut == 0.5
    # Rollouts of any length compare: each has its errors in the second half.
    assert statistics_of(rows([1.0, 0.0], [1.0] * 5 + [0.0] * 5)).shortcut == 1.0


def test_what_has_no_value_is_nan_and_null_in_json() -> None:
    nothing, right = statistics_of(rows()), statistics_of(rows([1.0]))
    assert math.isnan(nothing.negative_share)
    assert math.isnan(right.shortcut)
    assert nothing.numbers()["negative_share"] is None
    assert nothing.numbers()["negative_by_fifth"] == [None] * 5
    assert right.numbers()["position_auc"] is None


def test_batches_count_as_one_table() -> None:
    rng = np.random.default_rng(3)
    scores = [list(rng.integers(0, 3, rng.integers(1, 9)) / 2) for _ in range(60)]
    whole = rows(*scores, questions="abcdef" * 10)
    tally = Tally()
    for start in range(0, 60, 7):
        tally.add(whole.slice(start, 7))
    assert tally.statistics().numbers() == statistics_of(whole).numbers()


@pytest.mark.parametrize("scope", ["source", "global"])
def test_selections_of_an_index_are_described_in_one_pass(
    scope: str, score: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 60)
    monkeypatch.setattr(writer, "ROWS_PER_GROUP", 16)
    reference.write_random_corpus(tmp_path / "corpus", seed=5, sizes={"big": 250, "small": 7, "one": 1})
    score(tmp_path / "corpus", tmp_path / "index", scope=scope, threshold=0.25)
    index = open_index(str(tmp_path / "index"))
    corpus, selections = index_statistics(index, (0.1, 0.5))
    assert corpus.rollouts == 258
    for fraction, found in zip((0.1, 0.5, 1.0), (*selections, corpus), strict=True):
        table = read_selection(index, fraction).rows
        assert found.numbers() == statistics_of(table, 0.25).numbers()
        # The index counts its kinds of rollouts with the same threshold.
        mixed = int(((p := table["positive_fraction"].to_numpy()) > 0).sum() - (p == 1).sum())
        assert found.mixed == mixed
