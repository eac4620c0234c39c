from typing import Any

import pyarrow as pa

from bisieve import schemas
from bisieve.ranking.sort import codes_and_texts, constant_column, from_bytes, to_bytes, trimmed


def table(shards: list[str], spans: list[list[str]]) -> pa.Table:
    rows = [[{"shard": shard, "offset": 1, "length": 2} for shard in of] for of in spans]
    kinds = [schemas.CODED, pa.list_(schemas.SPAN)]
    return pa.table([pa.array(shards, kinds[0]), pa.array(rows, kinds[1])], names=["shard", "spans"])


def dictionaries(rows: pa.Table) -> list[Any]:
    spans = rows["spans"].chunk(0).flatten()
    return [rows["shard"].chunk(0).dictionary.to_pylist(), spans.field("shard").dictionary.to_pylist()]


def test_codes_stand_for_texts_whatever_dictionaries_the_chunks_have() -> None:
    column = pa.chunked_array([constant_column("b", 2), constant_column("a", 1), constant_column("b", 1)])
    codes, texts = codes_and_texts(column)
    assert [texts[code] for code in codes] == ["b", "b", "a", "b"]
    assert sorted(texts) == ["a", "b"]


def test_a_slice_keeps_only_the_texts_that_its_rows_have() -> None:
    names = [f"shard {number}" for number in range(9)]
    whole = table(names, [[names[place], names[place - 1]] for place in range(9)])
    part = trimmed(whole.slice(3, 2))
    assert part.to_pylist() == whole.slice(3, 2).to_pylist()
    assert dictionaries(part) == [names[3:5], [names[3], names[2], names[4]]]
    assert from_bytes(to_bytes(whole.slice(3, 2))).to_pylist() == part.to_pylist()


def test_a_dictionary_that_is_no_longer_than_its_column_stays() -> None:
    whole = table(["a", "b", "a"], [["a"], ["b"], ["b"]])
    assert trimmed(whole.slice(0, 2)).equals(whole.slice(0, 2))
    assert dictionaries(trimmed(whole.slice(0, 2))) == [["a", "b"], ["a", "b"]]
