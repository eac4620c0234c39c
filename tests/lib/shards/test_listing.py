from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from bisieve.errors import CorpusError, StorageError
from bisieve.io.storage import FileInfo
from bisieve.io.urls import file_stem, folder_name
from bisieve.shards import listing as shard_listing
from bisieve.shards.listing import Split, list_inputs, list_shards, plan_tasks, split_shards


def test_shards_are_found_once_and_in_path_order(write_jsonl: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/z.jsonl", "a.ndjson"):
        write_jsonl(name, [b"{}"])
    (tmp_path / "notes.txt").write_text("no shard")
    shards = list_shards([str(tmp_path), str(tmp_path / "*.jsonl")])
    assert [Path(shard.url).name for shard in shards] == ["a.ndjson", "z.jsonl", "b.jsonl"]


def test_a_shard_counts_once_however_its_folder_is_spelled_or_linked(
    write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    write_jsonl("C/a/one.jsonl", [b"{}"])
    (tmp_path / "C/link").symlink_to(tmp_path / "C/a")
    (tmp_path / "C/two.jsonl").symlink_to(tmp_path / "C/a/one.jsonl")
    for spelled in ("C//a", "C/a/.", "C/../C/a", "C/link", "C/link/../a"):
        assert len(list_shards([f"{tmp_path}/C/a", f"{tmp_path}/{spelled}"])) == 1
    (shard,) = list_shards([f"{tmp_path}//C/."])
    assert shard.url == f"file://{tmp_path}/C/a/one.jsonl"


def test_a_folder_without_shards_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no file"):
        list_shards([str(tmp_path)])
    (tmp_path / "data.csv").write_text("a,b")
    with pytest.raises(CorpusError, match=r"data\.csv"):
        list_shards([str(tmp_path)])
    with pytest.raises(StorageError, match="found nothing"):
        list_shards([str(tmp_path / "typo")])


def test_a_shard_of_a_kind_that_is_not_read_is_never_passed_over(
    write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    write_jsonl("a.jsonl", [b"{}"])
    (tmp_path / "b.json").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"1 other, such as .*b\.json"):
        list_shards([str(tmp_path)])


def test_what_may_be_data_and_is_not_read_is_named(write_jsonl: Callable[..., Path], tmp_path: Path) -> None:
    for name in (
        "a.JSONL",
        "b.JsonL.GZ",
        "c.jsonlines",
        "d.parq",
        "e.pq",
        "f.jsonl.zstd",
        "g.jsonl.bz2",
        "h.jsonl.xz",
    ):
        write_jsonl(name, [b"{}"])
    for name in (
        "part-00000",
        "data.csv",
        "x.jsonl.lz4",
        "README.md",
        "LICENSE",
        "_SUCCESS",
        ".a.crc",
        "i.PNG",
    ):
        (tmp_path / name).write_bytes(b"x")
    listing = list_inputs([str(tmp_path), str(tmp_path / "*")])
    assert [Path(shard.url).name[0] for shard in listing.shards] == list("abcdefgh")
    assert [Path(url).name for url in listing.left_out] == ["data.csv", "part-00000", "x.jsonl.lz4"]
    assert {file_stem(shard.url) for shard in listing.shards} == set("abcdefgh")


def test_shards_of_all_forms_are_found_with_one_listing_an_input(
    write_jsonl: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a.jsonl", "b.jsonl.gz", "c.ndjson.zst", "d.parquet", "e/f.snappy.parquet"]
    for folder in ("one", "two"):
        for name in names:
            write_jsonl(f"{folder}/{name}", [b"{}"])
    listed = []
    listing = shard_listing.list_files
    monkeypatch.setattr(
        shard_listing, "list_files", lambda url, **options: listed.append(url) or listing(url, **options)
    )
    found = list_shards([str(tmp_path / "one"), str(tmp_path / "two")])
    assert [Path(shard.url).name for shard in found] == [Path(name).name for name in names] * 2
    assert listed == [str(tmp_path / "one"), str(tmp_path / "two")]


def test_splits_cover_a_shard_without_overlap(write_jsonl: Callable[..., Path]) -> None:
    path = write_jsonl("a.jsonl", [b"x" * 99] * 10)
    splits = split_shards(list_shards([str(path)]), split_bytes=300)
    assert [(split.start, split.end) for split in splits] == [(0, 300), (300, 600), (600, 900), (900, 1000)]


def test_an_empty_shard_has_no_split(write_jsonl: Callable[..., Path]) -> None:
    assert split_shards(list_shards([str(write_jsonl("a.jsonl", []))]), 100) == []


def test_the_source_of_a_shard_is_its_stem() -> None:
    assert file_stem("s3://bucket/x/ai2d_train.v2.jsonl") == "ai2d_train.v2"
    assert file_stem("s3://bucket/x/ai2d.parquet") == "ai2d"
    assert folder_name("s3://bucket/x/part-0.parquet") == "x"


def a_shard(name: str, size: int) -> FileInfo:
    return FileInfo(f"s3://bucket/{name}", size, "etag")


def test_thousands_of_small_shards_are_few_tasks() -> None:
    small = [a_shard(f"{number:05}.jsonl", 1000) for number in range(3000)]
    tasks = plan_tasks(small, cores=2)
    assert len(tasks) == 16
    assert [split.shard for task in tasks for split in task] == [shard.url for shard in small]
    assert len(plan_tasks(small, cores=1000)) == 94  # as many cores as there are, but none for nothing


@pytest.mark.parametrize("name", ["huge.jsonl", "huge.parquet"])
def test_a_huge_shard_is_split_among_tasks(name: str) -> None:
    size = 100 * 2**30
    tasks = plan_tasks([a_shard(name, size), a_shard("small.jsonl", 10)], cores=4)
    assert len(tasks) == 401
    ranges = [(split.start, split.end) for task in tasks for split in task if split.shard.endswith(name)]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == size
    assert all(one[1] == two[0] for one, two in pairwise(ranges))


def test_a_compressed_shard_is_one_split_and_an_empty_parquet_file_is_not_passed_over() -> None:
    (split,) = split_shards([a_shard("huge.jsonl.gz", 2**40)], 2**20)
    assert (split.start, split.stored) == (0, 2**40)
    assert split_shards([a_shard("empty.parquet", 0)], 2**20) == [Split("s3://bucket/empty.parquet", 0, 0, 0)]


@pytest.mark.parametrize("published", [True, False])
def test_an_index_inside_the_input_is_no_data(
    write_jsonl: Callable[..., Path], tmp_path: Path, published: bool
) -> None:
    write_jsonl("a.jsonl", [b"{}"])
    rows = tmp_path / "index/versions/0/rollouts/part-0.parquet"
    rows.parent.mkdir(parents=True)
    rows.write_bytes(b"PAR1")
    if published:  # then it is known for an index, even for one that is not written now
        (tmp_path / "index/manifest.json").write_text("{}")
    own = None if published else f"file://{tmp_path}/index"
    listing = list_inputs([str(tmp_path)], own)
    assert ([Path(shard.url).name for shard in listing.shards], listing.left_out) == (["a.jsonl"], [])
    with pytest.raises(CorpusError, match="the files of an index"):
        list_inputs([str(tmp_path / "index")], own)


def test_versions_without_a_manifest_are_data(
    write_jsonl: Callable[..., Path],
) -> None:
    path = write_jsonl("versions/a.jsonl", [b"{}"])
    assert len(list_shards([str(path.parent.parent)])) == 1


def test_a_link_to_nothing_is_named_with_what_it_leads_to(
    write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    write_jsonl("a.jsonl", [b"{}"])
    (tmp_path / ".lock.jsonl").symlink_to(tmp_path / "gone")  # hidden: nobody asked for it
    assert len(list_shards([str(tmp_path)])) == 1
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "gone")
    for url in (str(tmp_path), f"{tmp_path}/*.jsonl"):
        with pytest.raises(
            StorageError, match=r"file at .*b\.jsonl; found a broken symbolic link to .*gone; remove"
        ):
            list_shards([url])


def test_a_link_to_nothing_that_is_no_shard_is_left_out_and_named(
    write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    shard = write_jsonl("a.jsonl", [b"{}"])
    for name in ("README.md", "images.png", "more", "b.csv"):
        (tmp_path / name).symlink_to(tmp_path / "gone")
    listing = list_inputs([str(tmp_path)])
    assert [found.url for found in listing.shards] == [f"file://{shard}"]
    assert listing.left_out == [
        f"file://{tmp_path}/{name} (a broken symbolic link)" for name in ("b.csv", "more")
    ]
    shard.unlink()
    with pytest.raises(CorpusError, match="found no file"):
        list_shards([str(tmp_path)])


def test_two_colons_in_a_name_on_a_disk_are_no_chain(write_jsonl: Callable[..., Path]) -> None:
    path = write_jsonl("x::y/c::d.jsonl", [b"{}"])
    for url in (path, path.parent, path.parent.parent, f"file://{path}", f"{path.parent}/*.jsonl"):
        assert [shard.url for shard in list_shards([str(url)])] == [f"file://{path}"]


def test_a_file_that_is_named_and_not_read_is_told_the_suffixes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b")
    with pytest.raises(CorpusError, match=r"\*\.jsonl.*a file with another suffix; rename or convert it"):
        list_shards([f"file://{tmp_path}/a.csv"])
