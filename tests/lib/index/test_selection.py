from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from bisieve.cli.main import main
from bisieve.errors import IndexUnusableError, UsageError
from bisieve.index import writer
from bisieve.index.manifest import FORMAT_VERSION
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection


@pytest.mark.parametrize(("fraction", "kept"), [(1e-9, 1), (0.29, 28), (0.3, 30), (0.999, 99), (1.0, 100)])
def test_a_fraction_keeps_its_floor_and_at_least_one_of_each_source(
    score: Callable[..., Any],
    write_jsonl: Callable[..., Path],
    rollout: Callable[..., Any],
    tmp_path: Path,
    fraction: float,
    kept: int,
) -> None:
    write_jsonl("corpus/a.jsonl", [rollout([1.0])] * 100)
    write_jsonl("corpus/b.jsonl", [rollout([1.0])])
    score(tmp_path / "corpus", tmp_path / "index")
    selection = read_selection(open_index(str(tmp_path / "index")), fraction)
    # The product in float64, as the paper's procedure has it: 100 · 0.29 is a little less than 29.
    assert selection.rows["source"].to_pylist() == ["a"] * kept + ["b"]
    assert (selection.fraction, selection.available, selection.delivered) == (fraction, 101, (kept + 1) / 101)


def test_a_selection_reads_only_a_prefix_of_each_source(
    score: Callable[..., Any],
    write_jsonl: Callable[..., Path],
    rollout: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 64)
    monkeypatch.setattr(writer, "ROWS_PER_GROUP", 8)
    for source in "abc":
        write_jsonl(f"corpus/{source}.jsonl", [rollout([1.0], question=f"{n}") for n in range(100)])
    score(tmp_path / "corpus", tmp_path / "index")
    read: list[int] = []
    whole = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda file, group, **how: read.append(group) or whole(file, group, **how),
    )
    selection = read_selection(open_index(str(tmp_path / "index")), 0.1)
    assert selection.rows["rank"].to_pylist() == list(range(1, 11)) * 3
    assert len(read) * 8 <= 3 * (10 + 2 * 8)


def test_the_name_of_a_selection_tells_index_and_fraction(
    score: Callable[..., Any], indexed: Path, tmp_path: Path
) -> None:
    index = open_index(str(indexed))
    names = {read_selection(index, fraction).fingerprint for fraction in (0.1, 0.2, 0.1)}
    assert len(names) == 2


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.0001, float("nan")])
def test_a_fraction_outside_zero_to_one_is_refused(indexed: Path, fraction: float) -> None:
    with pytest.raises(UsageError, match=r"\(0, 1\]"):
        read_selection(open_index(str(indexed)), fraction)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"[]", "other content: Expected `object`, got `array`"),
        (b'{"x": 1}', "other content: Object missing required field `format`"),
        (b'{"format": "other", "format_version": 1}', "format other"),
        (
            b'{"format": "bisieve-index", "format_version": "1"}',
            r".*Expected `int`, got `str` - at `\$.format_v",
        ),
        (
            b'{"format": "bisieve-index", "format_version": 1}',
            "other fields: .* missing required field `finger",
        ),
    ],
)
def test_a_manifest_that_is_none_is_refused_and_what_is_wrong_with_it_is_named(
    tmp_path: Path, content: bytes, found: str
) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    named = f"expected a manifest of bisieve-index version 1 at .*; found {found}.*; score the corpus"
    with pytest.raises(IndexUnusableError, match=named):
        open_index(str(tmp_path))


@pytest.mark.parametrize(
    ("version", "remedy"),
    [(FORMAT_VERSION + 1, "install a newer bisieve"), (0, "score the corpus into another --index")],
)
def test_an_index_of_another_format_version_is_refused_with_what_to_do(
    indexed: Path, capsys: pytest.CaptureFixture[str], version: int, remedy: str
) -> None:
    manifest = indexed / "manifest.json"
    ours = f'"format_version": {FORMAT_VERSION}'
    assert ours in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(ours, f'"format_version": {version}'))
    assert main(["report", "--index", str(indexed)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"expected bisieve-index version {FORMAT_VERSION} at file://{manifest}" in line
    assert f"found version {version}; {remedy}" in line


@pytest.mark.parametrize("content", [b"", b'{"format": "bisieve-in', b'{"format": "\xff"}'])
def test_a_manifest_that_is_cut_off_is_told_from_one_of_another_version(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(
        IndexUnusableError, match=r"truncated or not JSON; .*versions/FINGERPRINT/manifest.json"
    ):
        open_index(str(tmp_path))


def test_other_engines_read_an_index_with_no_help(spark: Any, indexed: Path) -> None:
    import duckdb
    import polars
    from pyspark.sql import SparkSession

    folder = next((indexed / "versions").glob("*/rollouts"))
    expected = [row["scores"] for row in pyarrow.dataset.dataset(folder).to_table().to_pylist()]
    by_spark = SparkSession(spark).read.parquet(str(folder)).orderBy("rank").collect()
    assert [row["scores"] for row in by_spark] == expected
    query = f"select scores, spans[1].shard from '{folder}/*.parquet' order by rank"
    assert [row[0] for row in duckdb.sql(query).fetchall()] == expected
    assert polars.read_parquet(f"{folder}/*.parquet").sort("rank")["scores"].to_list() == expected
