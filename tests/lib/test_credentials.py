"""URLs that carry a secret are shown without it, and refused."""

import pytest

from bisieve.credentials import without_secrets
from bisieve.errors import UsageError
from bisieve.storage import canonical, list_files

CARRYING = [
    ("s3://key:secret@bucket/a", "s3://***@bucket/a"),
    ("https://token@host/a", "https://***@host/a"),
    ("https://host/a?sig=secret&se=1", "https://host/a?***"),
    ("https://host/a?X-Amz-Date=1&X-Amz-Signature=secret", "https://host/a?***"),
    ("az://box/a?sv=1&sig=secret", "az://box/a?***"),
]
PLAIN = [
    "abfs://box@account.dfs.core.windows.net/a",
    "hf://datasets/somebody/corpus@main/a.jsonl",
    "file:///a?b@c",
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


@pytest.mark.parametrize("path", ["/data/a?sig=b", "/data/key:b@c/shard?.jsonl"])
def test_a_path_on_a_disk_may_have_such_signs(path: str) -> None:
    assert canonical(path) == f"file://{path}"
