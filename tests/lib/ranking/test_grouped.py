from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisieve.ranking.grouped import GroupPass, completed, completions, ends, question_group, totals, unchanged
from bisieve.ranking.sort import sorted_indices
from bisieve.records.options import Parameters

ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("qr"), st.integers(0, 2)), min_size=1, max_size=30
)


@pytest.mark.parametrize("scope", ["source", "global"])
@given(rows=ROWS, size=st.integers(1, 8))
def test_counted_in_pieces_or_as_a_whole_is_the_same(rows: list[Any], size: int, scope: str) -> None:
    parameters = Parameters(0.05, scope, "spread", 0)
    source, question, key = zip(*rows, strict=True)
    whole = pa.table(
        {
            "source": source,
            "question_id": question,
            "key": pa.array(key, pa.float64()),
            "tie": pa.array([0] * len(rows), pa.int64()),
            "shard": source,
            "offset": range(len(rows)),
            "worth": [number**2 for number in range(len(rows))],
        }
    )
    step = GroupPass(question_group, unchanged, unchanged, sums=("worth",))
    ordered = whole.take(sorted_indices(whole, step.order(parameters)))
    pieces = [totals(ordered.slice(start, size), step, parameters) for start in range(0, len(rows), size)]
    lacks = completions([ends(piece, step, parameters) for piece in pieces])
    counted = [completed(piece, step, parameters, lack) for piece, lack in zip(pieces, lacks, strict=True)]
    assert pa.concat_tables(counted).to_pydict() == totals(ordered, step, parameters).to_pydict()
    names = step.group(parameters)
    for row in pa.concat_tables(counted).to_pylist():
        group = [other for other in whole.to_pylist() if all(other[name] == row[name] for name in names)]
        better = [other["key"] for other in group if other["key"] > row["key"]]
        assert row["_size"] == len(group)
        assert row["worth"] == sum(other["offset"] ** 2 for other in group)
        assert len(better) < row["_place"] <= len(group)
