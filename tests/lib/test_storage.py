import pickle
from pathlib import Path

import pytest

from bisieve.errors import StorageError
from bisieve.storage import canonical, list_files, open_output, read_bytes, stat, write_bytes


def interrupted_write(url: str) -> None:
    with open_output(url) as file:
        file.write(b"half")
        raise KeyboardInterrupt


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return canonical(str(tmp_path))
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


def test_a_file_is_listed_with_size_and_etag_and_read_by_range(folder: str) -> None:
    write_bytes(f"{folder}/a/b.jsonl", b"0123456789")
    (info,) = list_files(folder)
    assert (info.url, info.size, info.etag) == (f"{folder}/a/b.jsonl", 10, stat(info.url).etag)
    assert read_bytes(info.url, 2, 5) == b"234"


def test_a_changed_file_has_another_etag(folder: str) -> None:
    write_bytes(f"{folder}/x", b"one")
    before = stat(f"{folder}/x")
    write_bytes(f"{folder}/x", b"two")
    assert stat(f"{folder}/x") != before


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
