"""Questions are counted as plain Python counts them, whatever their names and batches."""

from collections import Counter

import pyarrow as pa
import pytest

from bisieve.index import question_counts
from bisieve.index.question_counts import QuestionCounts, question_hashes

NAMES = [f"{number % 700:032x}" for number in range(3000)]
ODD = ["", "q1", "ü", "x" * 40, *NAMES[:3], "q1"]


@pytest.mark.parametrize("names", [NAMES, ODD, NAMES + ODD], ids=["usual", "odd", "both"])
@pytest.mark.parametrize("fewest", [1, 10_000])
def test_each_name_is_counted(names: list[str], fewest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question_counts, "_FEWEST", fewest)
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
