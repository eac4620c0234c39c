"""The index of the benchmark of reports is one like any other."""

from pathlib import Path

import bisieve
from bench.large_index import make_index


def test_an_index_without_shards_is_reported(tmp_path: Path) -> None:
    index = bisieve.open_index(make_index(tmp_path / "index", 2_000, 2, processes=0))
    numbers = index.write_html(str(tmp_path / "page.html"), "10%")
    assert [each["corpus"]["rollouts"] for each in numbers["sources"]] == [1000, 1000]
    assert numbers["corpus"]["questions"] == 500
    assert numbers["selection"]["rollouts"] == 200
    assert "the text of 24 of 24 rollouts" in numbers["not_read"][0]
