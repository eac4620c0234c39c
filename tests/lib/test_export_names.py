import pytest

from bisieve.export import file_name
from bisieve.shards import file_stem


@pytest.mark.parametrize("source", ["数学", "géo 1", "geo-3k", "a.jsonl"])
def test_a_source_keeps_its_name_as_a_file(source: str) -> None:
    assert file_stem(f"file:///out/{file_name(source)}.jsonl") == source


@pytest.mark.parametrize(
    ("source", "name"),
    [("a/b", "a%2Fb"), (".x", "%2Ex"), ("_x", "%5Fx"), ("a%2Fb", "a%252Fb"), ("a\u2028b", "a%E2%80%A8b")],
)
def test_what_would_hide_or_split_a_file_is_encoded(source: str, name: str) -> None:
    assert file_name(source) == name
