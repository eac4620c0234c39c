"""Plain HTTP to S3 only where it is asked for by name."""

from collections.abc import Iterator

import pytest

from bisieve.errors import StorageError
from bisieve.io.access import PLAIN_HTTP, check_endpoint
from bisieve.io.storage import list_files


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
