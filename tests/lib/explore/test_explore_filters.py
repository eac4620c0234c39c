"""What a page asks for becomes SQL with parameters, never with its text."""

import duckdb
import pytest

from bisieve.errors import UsageError
from bisieve.explore.filters import IN, KINDS, NUMBERS, SORTED_BY, filters_of, order

HOSTILE = "'; DROP TABLE marked; --"


def test_values_are_parameters() -> None:
    asked = {"source": HOSTILE, "text": HOSTILE, "question_id": HOSTILE, "bis_min": "0.1", "rank_max": "7"}
    condition, values = filters_of(asked).where()
    assert HOSTILE not in condition
    assert values == {
        "source": HOSTILE, "text": HOSTILE, "question_id": HOSTILE, "bis_min": 0.1, "rank_max": 7.0,
    }  # fmt: skip


@pytest.mark.parametrize("asked", [{}, {"source": "", "bis_min": ""}], ids=str)
def test_without_a_filter_everything_passes(asked: dict[str, str]) -> None:
    assert filters_of(asked).where() == ("(true)", {})


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"sourze": "a"}, "expected the name of a filter; found sourze; did you mean source?"),
        ({"bis_min; --": "1"}, "expected the name of a filter"),
        ({"bis_min": "x"}, "expected a number as bis_min; found x"),
        ({"selected": "all"}, "expected one of kept, dropped, entered, left, marked as selected; found all"),
        ({"kind": "x"}, "expected one of mixed, all positive, all negative as kind"),
    ],
    ids=str,
)
def test_an_unknown_filter_is_refused(asked: dict[str, str], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        filters_of(asked)


def test_only_known_columns_are_sorted_by() -> None:
    assert order("bis", True) == "bis DESC, source, rank"
    with pytest.raises(UsageError, match="to sort by"):
        order("bis; DROP TABLE marked", False)


def test_every_condition_and_order_is_valid() -> None:
    database = duckdb.connect()
    texts = ", ".join(f"'x' AS {name}" for name in ("source", "rollout_id", "question_id", "lowered"))
    numbers = ", ".join(f"1 AS {name}" for name in NUMBERS)
    database.execute(f"CREATE TABLE rollouts AS SELECT {texts}, {numbers}, true AS kept, false AS was_kept")
    database.execute("CREATE TABLE questions AS FROM rollouts; CREATE TABLE marked (rollout_id VARCHAR)")
    ranges = {f"{name}_{end}": "1" for name in NUMBERS for end in ("min", "max")}
    for selected in IN:
        for kind in KINDS:
            condition, values = filters_of(
                {"selected": selected, "kind": kind, "text": "X", **ranges}
            ).where()
            for by in SORTED_BY:
                query = f"SELECT count(*) FROM (FROM rollouts WHERE {condition} ORDER BY {order(by, True)})"
                ((found,),) = database.execute(query, values).fetchall()
                assert found == (selected in ("kept", "entered") and kind == "all positive")
