from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisieve.ranking.sort import sorted_indices
from bisieve.ranking.strategies import continued, counted_before, ends, question_order, with_occurrence
from bisieve.records.options import Parameters

ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("qr"), st.integers(0, 2)), min_size=1, max_size=30
)


@pytest.mark.parametrize("scope", ["source", "global"])
@given(rows=ROWS, size=st.integers(1, 8))
def test_counted_in_pieces_or_as_a_whole_is_the_same(rows: list[Any], size: int, scope: str) -> None:
    parameters = Parameters(0.05, scope, "spread", 0, "rollouts", None)
    source, question, key = zip(*rows, strict=True)
    whole = pa.table(
        {
            "source": source,
            "question_id": question,
            "key": pa.array(key, pa.float64()),
            "tie": pa.array([0] * len(rows), pa.int64()),
            "shard": source,
            "offset": range(len(rows)),
        }
    )
    ordered = whole.take(sorted_indices(whole, question_order(parameters)))
    pieces = [with_occurrence(ordered.slice(start, size), parameters) for start in range(0, len(rows), size)]
    before = counted_before([ends(piece, parameters) for piece in pieces])
    counted = [continued(piece, parameters, count) for piece, count in zip(pieces, before, strict=True)]
    assert pa.concat_tables(counted).to_pydict() == with_occurrence(whole, parameters).to_pydict()
