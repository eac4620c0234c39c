"""The manifest is small whatever the index holds; what grows lies in lists that are read on demand."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from support.handmade import Made, make_index

from bisieve.index import writer
from bisieve.index.manifest import ROWS_VERSION, Manifest, fingerprint, is_up_to_date
from bisieve.index.reader import Index, indexed_layouts
from bisieve.pipeline.incremental import known_layouts

SMALL = 4000  # bytes


def index_of(folder: Path, sources: int, rollouts: int) -> Index:
    made = [Made(f"source {number % sources:05}", f"r{number}", (1.0,)) for number in range(rollouts)]
    return make_index(folder, made)


def manifest_bytes(index: Index) -> int:
    return Path(f"{index.url.removeprefix('file://')}/manifest.json").stat().st_size


def test_its_size_depends_neither_on_the_sources_nor_on_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = index_of(tmp_path / "small", sources=1, rollouts=1)
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 25)
    large = index_of(tmp_path / "large", sources=2000, rollouts=2500)
    assert (large.sources.num_rows, len(large.files)) == (2000, 100)
    assert manifest_bytes(large) < manifest_bytes(small) + 50 < SMALL


def test_its_lists_tell_of_every_source_and_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 5)
    index = index_of(tmp_path, sources=7, rollouts=24)
    assert index.rollouts_by_source == {f"source {n:05}": 4 if n < 3 else 3 for n in range(7)}
    assert [file.rows for file in index.files] == [5, 5, 5, 5, 4]
    assert index.rejects == []
    version = (tmp_path / "index/versions").rglob("*.*")
    assert {str(path.relative_to(tmp_path / "index")) for path in version} == set(index.paths)
    sizes = {file.path: (tmp_path / "index" / file.path).stat().st_size for file in index.files}
    assert sizes == {file.path: file.bytes for file in index.files}
    assert sum(sizes.values()) == index.manifest.file_bytes


def test_a_list_is_read_once_and_does_not_travel(tmp_path: Path) -> None:
    index = index_of(tmp_path, sources=30, rollouts=30)
    packed = pickle.dumps(index)
    sources, files = index.sources, index.files
    for part in index.manifest.lists:
        (tmp_path / "index" / part.path).unlink()
    assert index.sources is sources
    assert index.files == files
    assert pickle.dumps(index) == packed


def test_an_index_that_older_rules_scanned_is_scanned_again(tmp_path: Path) -> None:
    index = index_of(tmp_path, sources=2, rollouts=4)
    parameters, shards = index.manifest.parameters, list(indexed_layouts(index))
    assert is_up_to_date(index.manifest, parameters, shards)
    fields = json.loads(index.manifest.to_json())
    fields["rows_version"] = ROWS_VERSION - 1
    fields["fingerprint"] = fingerprint(parameters, shards, ROWS_VERSION - 1)
    older = Manifest.from_json(json.dumps(fields).encode(), "file:///manifest.json")
    assert not is_up_to_date(older, parameters, shards)
    assert fields["fingerprint"] != index.fingerprint  # so no version that is read is written over
    assert known_layouts(replace(index, manifest=older), parameters) == {}
    assert replace(index, manifest=older).rollouts_by_source == index.rollouts_by_source
