"""An index whose files are missing or damaged says so, and is no network that fails."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.handmade import Made, make_index

from bisieve.cli.main import main
from bisieve.errors import IndexUnusableError
from bisieve.index.reader import Index, indexed_shards, missing_files
from bisieve.index.selection import read_selection
from bisieve.local.engine import local_engine
from bisieve.pipeline.rank import rank_index
from bisieve.tools.diff_match import by_source
from bisieve.tools.report import score_report

LISTS = ("shards", "sources", "files")
READERS: list[tuple[str, Callable[[Index], object]]] = [
    ("shards", indexed_shards),
    ("sources", lambda index: score_report(index, index.url)),
    ("files", lambda index: index.files),
    ("rollouts", lambda index: read_selection(index, 1.0)),
    ("rollouts", lambda index: list(by_source(index))),
]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return make_index(tmp_path, [Made("a", f"r{number}", (1.0, number / 500)) for number in range(500)])


def part(index: Index, name: str) -> Path:
    files = dict(zip(LISTS, index.manifest.lists, strict=True)) | {"rollouts": index.files[0]}
    return Path(index.url.removeprefix("file://")) / files[name].path


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def overwrite(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)


def change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [Path.unlink, cut_off, lambda path: path.write_bytes(b""), overwrite])
@pytest.mark.parametrize(("name", "read"), READERS)
def test_a_damaged_file_is_named_with_what_to_do(
    index: Index, name: str, read: Callable[[Index], object], harm: Callable[[Path], object]
) -> None:
    path = part(index, name)
    harm(path)
    with pytest.raises(IndexUnusableError, match=rf"{path.name}.*; found .*; restore it, or delete it"):
        read(Index(index.url, index.manifest))


@pytest.mark.parametrize(("name", "read"), READERS[:3])
def test_a_list_in_which_one_bit_has_changed_is_refused(
    index: Index, name: str, read: Callable[[Index], object]
) -> None:
    change_a_byte(part(index, name))
    with pytest.raises(
        IndexUnusableError, match=r"with sha256 .*; found .* bytes with sha256 .*; restore it"
    ):
        read(Index(index.url, index.manifest))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("sources", "report"),
        ("sources", "diff --other-fraction 10%"),
        ("files", "diff --other-fraction 10%"),
        ("files", "clean"),
    ],
)
def test_a_command_that_needs_a_damaged_list_says_so_in_one_line(
    index: Index, name: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    overwrite(part(index, name))
    assert main([*command.split(), "--index", index.url]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"/{name}.parquet" in line
    assert line.endswith("restore it, or delete it and run bisieve score again")


def test_files_that_are_gone_or_too_short_are_found(index: Index) -> None:
    rows = index.files[0]

    def lost() -> list[str]:
        return missing_files(Index(index.url, index.manifest))

    assert lost() == []
    cut_off(part(index, "rollouts"))
    assert lost() == [rows.path]
    part(index, "shards").unlink()
    cut_off(part(index, "sources"))
    assert lost() == [index.manifest.shards.path, index.manifest.sources.path, rows.path]
    part(index, "files").unlink()
    assert lost() == [file.path for file in index.manifest.lists]  # the list of the others is among them


@pytest.mark.parametrize("name", ["files", "rollouts"])
def test_ranking_again_writes_a_damaged_version_again(index: Index, tmp_path: Path, name: str) -> None:
    def rank() -> tuple[Index, bool]:
        parameters = replace(index.manifest.parameters, alpha=0.2)
        return rank_index(local_engine, index, parameters, str(tmp_path / "ranked"))

    ranked, written = rank()
    assert written
    assert not rank()[1]
    path = part(ranked, name)
    whole = path.read_bytes()
    cut_off(path)
    assert rank() == (ranked, True)
    assert path.read_bytes() == whole
