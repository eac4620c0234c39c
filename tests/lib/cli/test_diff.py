"""``bisieve diff`` as a user meets it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.handmade import Made, make_index

from bisieve.cli.main import main
from bisieve.index.reader import open_index
from bisieve.io.storage import list_files, read_bytes, write_bytes


@pytest.fixture
def two_versions(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> Path:
    """An index whose older version lacks what the newer one found in a second shard."""
    old = [rollout([1.0, rank / 40], rollout_id=f"old{rank}") for rank in range(20)]
    write_jsonl("corpus/a.jsonl", old)
    write_jsonl("corpus/b.jsonl", [rollout([1.0], rollout_id="alone")])
    score(tmp_path / "corpus", tmp_path / "index")
    write_jsonl("corpus/a.jsonl", [*old[5:], rollout([1.0, 0.0], rollout_id="new")])
    score(tmp_path / "corpus", tmp_path / "index")
    return tmp_path / "index"


def test_two_versions_of_an_index_are_compared(
    two_versions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {path.parent.name for path in two_versions.glob("versions/*/manifest.json")}
    current = open_index(str(two_versions)).fingerprint
    (older,) = names - {current[:16]}
    rows_at = str(tmp_path / "rows.parquet")
    ask = ["diff", "--index", str(two_versions), "--version", older[:8], "--output", rows_at]
    assert main(ask) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["source", "selection", "A", "selection", "B", "kept", "left", "entered", "overlap"],
        ["a", "5", "4", "3", "2", "1", "50.0%"],
        ["b", "1", "1", "1", "0", "0", "100.0%"],
        ["all", "6", "5", "4", "2", "1", "57.1%"],
    ]
    assert [line.partition(" at ")[0] for line in lines[4:-2]] == [
        "left 1: gone, as a old0",
        "left 1: crowded out, as a old16",
        "entered 1: new rollout, as a new",
    ]
    assert "rank 5 (BIS 0.0350) → rank 5 (BIS 0.0350)" in lines[5]
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [(row["rollout_id"], row["change"], row["reason"]) for row in rows] == [
        ("old0", "left", "gone"), ("old16", "left", "crowded out"), ("new", "entered", "new rollout")
    ]  # fmt: skip
    assert older in lines[-2]
    assert current[:16] in lines[-1]


def test_an_index_alone_is_compared_with_its_version_before(
    two_versions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = ["diff", "--index", str(two_versions)]
    current = open_index(str(two_versions)).fingerprint
    names = {path.parent.name for path in two_versions.glob("versions/*/manifest.json")}
    (older,) = names - {current[:16]}
    assert main([*index, "--version", older]) == 0
    with_names = capsys.readouterr().out
    assert main(index) == 0
    assert capsys.readouterr().out == with_names


def test_a_selection_is_not_compared_with_itself(
    two_versions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = make_index(tmp_path / "single", [Made("p", "a", (1.0, 0.0))])
    current = open_index(str(two_versions)).fingerprint
    for words in (
        ["--index", index.url], ["--index", index.url, "--other", index.url],
        ["--index", str(two_versions), "--version", current],
        ["--index", str(two_versions), "--other-fraction", "25%", "--other-version", current],
    ):  # fmt: skip
        assert main(["diff", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "at 25% twice; give --other INDEX, --other-fraction F, or another --version" in line


def test_fractions_can_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = make_index(tmp_path, [Made("p", f"{n}", (1.0, n / 10)) for n in range(10)])
    assert main(["diff", "--index", index.url, "--fraction", "0.5", "--other-fraction", "0.2"]) == 0
    out = capsys.readouterr().out
    assert "left 3: fraction, as p " in out
    assert "entered" not in out.partition("left 3")[2]


def test_indexes_and_rows_can_lie_on_s3(s3: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, made in (("a", ["x"]), ("b", ["y"])):
        index = make_index(tmp_path / name, [Made("p", made_id, (1.0, 0.0)) for made_id in made])
        for file in list_files(index.url):
            write_bytes(f"{s3}/diff/{name}{file.url.removeprefix(index.url)}", read_bytes(file.url))
    assert (
        main(
            [
                "diff",
                "--index",
                f"{s3}/diff/a",
                "--other",
                f"{s3}/diff/b",
                "--output",
                f"{s3}/diff/rows.parquet",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.splitlines()[1].split() == ["p", "1", "1", "0", "1", "1", "0.0%"]
    rows = pq.read_table(io.BytesIO(read_bytes(f"{s3}/diff/rows.parquet")))
    assert rows["reason"].to_pylist() == ["gone", "new rollout"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--other-version", "ffff"], "found none; bisieve versions lists them"),
        (["--other-version", ""], "found 2: "),
        (["--fraction", "0"], "found 0;"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    two_versions: Path, words: list[str], found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["diff", "--index", str(two_versions), *words, "--output", str(tmp_path / "rows.parquet")]) != 0
    )
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert found in captured.err
    assert not (tmp_path / "rows.parquet").exists()
