"""A source keeps its name through an export, or the change is said."""

import string
from pathlib import Path

import pytest
from support.handmade import Made, make_index

from bisieve.index.selection import read_selection
from bisieve.io.urls import file_stem
from bisieve.shards.listing import list_shards
from bisieve.tools.export import changed_names, file_name

AS_THEY_ARE = [
    "数学", "géo 1", "geo-3k", "a.jsonl", "100 % geo", "a (1)", "a=b", "it's", "x & y", "a+b",
    *(f"a{sign}b" for sign in " !$%&'()+,-.;=@^_`{}~"),
]  # fmt: skip
CHANGED = {
    "a/b": "a%2Fb", "a\\b": "a%5Cb", ".x": "%2Ex", "_x": "%5Fx", "a%2Fb": "a%252Fb",
    "a\u2028b": "a%E2%80%A8b", "a::b": "a%3A%3Ab", "a*?[1]": "a%2A%3F%5B1%5D", "a#b": "a%23b",
}  # fmt: skip


@pytest.mark.parametrize("source", AS_THEY_ARE)
def test_a_source_keeps_its_name_as_a_file(source: str) -> None:
    assert file_stem(f"file:///out/{file_name(source)}.jsonl") == source


@pytest.mark.parametrize(("source", "name"), CHANGED.items())
def test_what_would_hide_or_split_a_file_is_encoded(source: str, name: str) -> None:
    assert file_name(source) == name


def test_files_of_all_names_are_listed_and_none_is_that_of_another_source(tmp_path: Path) -> None:
    sources = [*AS_THEY_ARE, *CHANGED, *CHANGED.values(), *(f"a{sign}b" for sign in string.printable)]
    names = {file_name(source) for source in sources}
    assert len(names) == len(set(sources))
    for name in names:
        (tmp_path / f"{name}.jsonl").write_text("{}\n")
    assert {file_stem(shard.url) for shard in list_shards([str(tmp_path)])} == names


def test_an_export_says_which_sources_have_another_name_as_a_file(tmp_path: Path) -> None:
    index = make_index(tmp_path, [Made(source, "r", (1.0,)) for source in ("a/b", "数学", "_x")])
    assert changed_names(read_selection(index, 1.0)) == ["_x", "a/b"]
