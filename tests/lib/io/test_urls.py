"""URLs with a secret are shown without it, and refused; so is plain HTTP to S3 that nobody asked for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bisieve._redact import without_secrets
from bisieve.cli.main import main
from bisieve.errors import StorageError, UsageError
from bisieve.io.storage import list_files
from bisieve.io.urls import PLAIN_HTTP, canonical, check_endpoint, check_no_secret


@pytest.fixture
def far_store(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket whose endpoint is a plain-HTTP server on another machine."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.internal:9000")
    s3fs.S3FileSystem.clear_instance_cache()
    yield s3
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://s3.eu-central-1.amazonaws.com",
        "http://localhost:8333",
        "http://127.0.0.1:1",
        "http://[::1]:9",
    ],
)
def test_tls_and_this_machine_are_always_allowed(endpoint: str) -> None:
    check_endpoint(endpoint, "s3://corpus")


@pytest.mark.parametrize("named", ["", "other:9000", "store:9001", "store"])
def test_plain_http_to_another_machine_is_refused_unless_it_is_named(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLAIN_HTTP, named)
    with pytest.raises(StorageError, match="BISIEVE_PLAIN_HTTP=store:9000"):
        check_endpoint("http://store:9000", "s3://corpus")


@pytest.mark.parametrize("secret", ["me:planted", "me:pl/anted", "planted"])
def test_an_endpoint_is_told_without_who_asks(secret: str) -> None:
    with pytest.raises(StorageError, match="BISIEVE_PLAIN_HTTP=store:9000") as raised:
        check_endpoint(f"http://{secret}@store:9000", "s3://corpus")
    assert "anted" not in str(raised.value)
    assert "found the endpoint http://store:9000;" in str(raised.value)


def test_plain_http_to_a_named_machine_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLAIN_HTTP, "other:1,store:9000")
    check_endpoint("http://store:9000", "s3://corpus")
    check_endpoint("http://me:secret@store:9000", "s3://corpus")


def test_no_store_is_asked_without_tls_however_often_it_is_tried(far_store: str) -> None:
    for _ in range(2):
        with pytest.raises(StorageError, match="expected TLS to the store of s3://corpus"):
            list_files(far_store)


CARRYING = [
    ("s3://key:secret@bucket/a", "s3://***@bucket/a"),
    ("s3://key:half/of/secret+@s@bucket/a", "s3://***@bucket/a"),
    ("s3://:secret@bucket/a", "s3://***@bucket/a"),
    ("hdfs://key:secret@host:8020/a", "hdfs://***@host:8020/a"),
    ("s3://me@home:/secret@bucket/a", "s3://***@bucket/a"),
    ("https://token@host/a", "https://***@host/a"),
    ("https://host/a?sig=secret&se=1", "https://host/a?***"),
    ("https://host/a?X-Amz-Date=1&X-Amz-Signature=secret", "https://host/a?***"),
    ("az://box/a?sv=1&sig=secret", "az://box/a?***"),
]
PLAIN = [
    "abfs://box@account.dfs.core.windows.net/a",
    "hf://datasets/somebody/corpus@main/a.jsonl",
    "hdfs://host:8020/user/a@b",
    "s3://bucket/at=12:30/a@b.jsonl",
    "s3://bucket/shard-?.jsonl",
    "s3://bucket/a,gs://bucket/b@c",
    "file:///a?b@c",
    "file:///a:b@c?key=d",
    "/a:b@c?d",
]


@pytest.mark.parametrize(("url", "shown"), [*CARRYING, *((url, url) for url in PLAIN)])
def test_what_a_url_carries_to_open_a_door_is_not_shown(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
    assert without_secrets(f"no answer from {url} today") == f"no answer from {shown} today"


@pytest.mark.parametrize("url", [url for url, _ in CARRYING])
def test_a_url_that_carries_a_secret_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(UsageError, match="expected URLs without credentials") as raised:
        list_files(url)
    assert "secret" not in str(raised.value)
    assert "token" not in str(raised.value)


@pytest.mark.parametrize(
    "name",
    [
        "X-Amz-Security-Token",
        "access_token",
        "api_key",
        "sig",
        "Password",
        "X-Amz-Credential",
        "client_secret",
    ],
)
def test_a_query_with_a_name_of_a_secret_is_refused(name: str) -> None:
    for url in (f"s3://bucket/a?{name}=planted", f"https://host/a b?part=1&{name}=planted"):
        with pytest.raises(UsageError, match="expected URLs without credentials") as raised:
            check_no_secret(url)
        assert "planted" not in str(raised.value)


@pytest.mark.parametrize("url", [*PLAIN, "https://host/a?keyword=b&tokens=2", "s3://bucket/?/key=1/a"])
def test_a_url_without_a_secret_is_not_refused(url: str) -> None:
    check_no_secret(url)


@pytest.mark.parametrize("prefix", ["old/=https://me:planted@host/", "s3://me:pl/anted@old/=new/"])
def test_where_images_lie_is_told_without_a_secret(
    prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--input", str(tmp_path), "--index", str(tmp_path / "index"), "--image-prefix", prefix]
    assert main(["score", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected URLs without credentials" in line
    assert "anted" not in line


def test_an_index_is_not_looked_for_with_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--index", "s3://AKIAX:PLAN/TEDsecret@bucket/x"]) == 2
    said = capsys.readouterr().err
    assert "s3://***@bucket/x" in said
    assert "PLAN" not in said


@pytest.mark.parametrize("path", ["/data/a?sig=b", "/data/key:b@c/shard?.jsonl"])
def test_a_path_on_a_disk_may_have_such_signs(path: str) -> None:
    assert canonical(path) == f"file://{path}"
