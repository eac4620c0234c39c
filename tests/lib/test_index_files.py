"""An index whose files are missing or damaged says so, and is no network that fails."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from handmade import Made, make_index

from bisieve.cut import read_cut
from bisieve.diff.rows import by_source
from bisieve.errors import IndexUnusableError
from bisieve.index import Index, indexed_shards, missing_files
from bisieve.rerank import publish_ranked, rank_in_memory

READERS: list[Callable[[Index], object]] = [
    lambda index: read_cut(index, 1.0),
    indexed_shards,
    lambda index: list(by_source(index)),
]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return make_index(tmp_path, [Made("a", f"r{number}", (1.0, number / 500)) for number in range(500)])


def parts(index: Index) -> list[Path]:
    folder = Path(index.url.removeprefix("file://"))
    return [folder / file.path for file in (index.manifest.shards, *index.manifest.files)]


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def overwrite(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [Path.unlink, cut_off, lambda path: path.write_bytes(b""), overwrite])
@pytest.mark.parametrize("read", READERS)
def test_a_damaged_file_is_named_with_what_to_do(
    index: Index, harm: Callable[[Path], object], read: Callable[[Index], object]
) -> None:
    for path in parts(index):
        harm(path)
    with pytest.raises(IndexUnusableError, match=r"\.parquet; found .*; restore it, or delete it"):
        read(index)


def test_files_that_are_gone_or_too_short_are_found(index: Index) -> None:
    assert missing_files(index) == []
    shards, rows = parts(index)
    cut_off(rows)
    assert missing_files(index) == [index.manifest.files[0].path]
    shards.unlink()
    assert len(missing_files(index)) == 2


def test_ranking_anew_writes_a_damaged_version_again(index: Index, tmp_path: Path) -> None:
    def rank() -> tuple[Index, bool]:
        parameters = replace(index.manifest.parameters, alpha=0.2)
        manifest, written = publish_ranked(index, parameters, str(tmp_path / "ranked"), rank_in_memory)
        return Index(f"file://{tmp_path}/ranked", manifest), written

    ranked, written = rank()
    assert written
    assert not rank()[1]
    whole = parts(ranked)[1].read_bytes()
    cut_off(parts(ranked)[1])
    assert rank() == (ranked, True)
    assert parts(ranked)[1].read_bytes() == whole
