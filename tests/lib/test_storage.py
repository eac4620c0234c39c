import pickle
from importlib.metadata import metadata
from pathlib import Path

import pytest

from bisieve.errors import StorageError
from bisieve.storage import DRIVERS, canonical, file_names, list_files, open_output, read_bytes, write_bytes


def interrupted_write(url: str) -> None:
    with open_output(url) as file:
        file.write(b"half")
        raise KeyboardInterrupt


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return canonical(str(tmp_path))
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


def test_a_file_is_listed_with_its_size_and_read(folder: str) -> None:
    write_bytes(f"{folder}/a/b.jsonl", b"0123456789")
    (info,) = list_files(folder)
    assert (info.url, info.size) == (f"{folder}/a/b.jsonl", 10)
    assert read_bytes(info.url) == b"0123456789"


def test_a_changed_file_has_another_etag(folder: str) -> None:
    write_bytes(f"{folder}/x", b"one")
    before = list_files(f"{folder}/x")
    write_bytes(f"{folder}/x", b"two")
    assert list_files(f"{folder}/x") != before


def test_links_are_followed_and_a_circle_of_them_ends(tmp_path: Path) -> None:
    for name in ("there/a.jsonl", "there/sub/b.jsonl"):
        write_bytes(str(tmp_path / name), b"four")
    here = tmp_path / "here"
    here.mkdir()
    (here / "a.jsonl").symlink_to(tmp_path / "there/a.jsonl")
    (here / "sub").symlink_to(tmp_path / "there/sub")
    (here / "circle").symlink_to(here)
    found = [(file.url.removeprefix(f"file://{here}/"), file.size) for file in list_files(str(here))]
    assert found == [("a.jsonl", 4), ("sub/b.jsonl", 4)]
    assert file_names(str(here)) == {"a.jsonl", "sub/b.jsonl"}
    assert len(list_files(f"{here}/*.jsonl")) == len(list_files(f"{here}/sub/*")) == 1


def test_globs_and_hidden_files(folder: str) -> None:
    for name in ("a.jsonl", "b.txt", ".hidden.jsonl", "_temporary/c.jsonl", "d/e.jsonl"):
        write_bytes(f"{folder}/{name}", b"x")
    assert [file.url.removeprefix(folder) for file in list_files(folder)] == [
        "/a.jsonl",
        "/b.txt",
        "/d/e.jsonl",
    ]
    assert [file.url.removeprefix(folder) for file in list_files(f"{folder}/*.jsonl")] == ["/a.jsonl"]


def test_an_output_that_fails_leaves_nothing(folder: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted_write(f"{folder}/out")
    write_bytes(f"{folder}/other", b"x")
    assert [file.url for file in list_files(folder)] == [f"{folder}/other"]


def test_an_output_that_fails_leaves_the_old_file(folder: str) -> None:
    write_bytes(f"{folder}/out", b"old")
    with pytest.raises(KeyboardInterrupt):
        interrupted_write(f"{folder}/out")
    assert read_bytes(f"{folder}/out") == b"old"


def test_what_is_not_there_is_named(folder: str) -> None:
    with pytest.raises(StorageError, match="found nothing") as caught:
        list_files(f"{folder}/nothing")
    assert f"{folder}/nothing" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_wrong_credentials_are_one_line(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(StorageError, match="credentials") as caught:
            list_files(f"{s3}/anything")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
    assert "\n" not in str(caught.value)
    assert "wrong" not in str(caught.value).replace("wrong credentials", "")


def test_an_unknown_protocol_is_one_line() -> None:
    with pytest.raises(StorageError, match="nosuch://bucket"):
        list_files("nosuch://bucket/x")


@pytest.mark.parametrize(
    ("url", "extra"), [("gs://bucket/x", "gcs"), ("az://container/x", "azure"), ("abfs://c/x", "azure")]
)
def test_a_driver_that_is_missing_is_one_line_that_names_the_extra(url: str, extra: str) -> None:
    with pytest.raises(
        StorageError, match=rf"a driver for {url};.*pip install 'bisieve\[{extra}\]'"
    ) as caught:
        list_files(url)
    assert "\n" not in str(caught.value)


def test_every_extra_that_is_named_is_one() -> None:
    assert set(DRIVERS.values()) <= set(metadata("bisieve").get_all("Provides-Extra") or [])
