import os
import pickle
from importlib.metadata import metadata
from pathlib import Path

import pytest

from bisieve.errors import StorageError
from bisieve.io.errors import DRIVERS, storage_errors
from bisieve.io.storage import exists, file_names, list_files, open_output, read_bytes, write_bytes
from bisieve.io.urls import canonical


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
    with pytest.raises(StorageError, match=r"known scheme \(file, s3, .* found s4:// in s4://bucket"):
        list_files("s4://bucket/x")


def test_missing_credentials_are_asked_for() -> None:
    from botocore.exceptions import NoCredentialsError

    with pytest.raises(StorageError, match="set AWS_ACCESS_KEY_ID"), storage_errors("s3://bucket/x"):
        raise NoCredentialsError()


def test_a_file_for_a_folder_and_a_folder_for_a_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for use in (read_bytes, exists, lambda url: write_bytes(url, b"")):
        with pytest.raises(StorageError, match=rf"a folder at {tmp_path}/file; found a file"):
            use(f"{tmp_path}/file/below")
    with pytest.raises(StorageError, match="a folder; name a file inside it"):
        read_bytes(str(tmp_path))
    with pytest.raises(StorageError, match="a folder; choose another path"):
        write_bytes(str(tmp_path), b"")


def test_a_path_has_one_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a/b")
    monkeypatch.chdir(tmp_path)
    for spelled in ("a//x", "a/./x", "./a/../a/x", f"file://{tmp_path}/a//x", "link/../x"):
        assert canonical(spelled) == f"file://{tmp_path}/a/x"
    assert canonical("link/x") == f"file://{tmp_path}/link/x"


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="found a device or a pipe"):
        write_bytes(str(tmp_path / "pipe"), b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "there")
    for text in (b"one", b"two"):
        write_bytes(str(tmp_path / "link"), text)
        assert (tmp_path / "there").read_bytes() == text
    assert (tmp_path / "link").is_symlink()


def test_a_name_with_glob_signs_is_a_name_where_there_is_such_a_file(folder: str) -> None:
    for name in ("a[1].jsonl", "a1.jsonl"):
        write_bytes(f"{folder}/{name}", b"x")
    assert [file.url for file in list_files(f"{folder}/a[1].jsonl")] == [f"{folder}/a[1].jsonl"]
    assert [file.url for file in list_files(f"{folder}/a[12].jsonl")] == [f"{folder}/a1.jsonl"]


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
