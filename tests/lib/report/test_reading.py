"""Text and images of rollouts are read from stores as far as these answer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from support.reported import write_corpus

import bisieve
from bisieve.io import retry


@pytest.fixture
def in_store(s3: str, tmp_path: Path, score: Callable[..., Any]) -> tuple[str, str]:
    """The URLs of an index on this machine of two shards in a store, with rejects, and of its images."""
    images = write_corpus(tmp_path / "corpus")
    place = f"{s3}/{tmp_path.name}"
    fs, path = fsspec.url_to_fs(place)
    fs.put(str(tmp_path / "corpus/shards"), f"{path}/shards", recursive=True)
    fs.put(str(images), f"{path}/images", recursive=True)
    score(f"{place}/shards", tmp_path / "index")
    return str(tmp_path / "index"), f"{place}/images"


@pytest.fixture
def lead_elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    from s3fs import S3FileSystem

    def lead(endpoint: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
        S3FileSystem.clear_instance_cache()

    yield lead
    S3FileSystem.clear_instance_cache()


def test_a_store_that_does_not_answer_is_waited_for_once(
    in_store: tuple[str, str],
    lead_elsewhere: Callable[[str], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lead_elsewhere("http://127.0.0.1:9")
    page = str(tmp_path / "page.html")
    numbers = bisieve.open_index(in_store[0]).write_html(page, image_root=in_store[1])
    (note,) = numbers["not_read"]
    assert note.startswith("the text of 24 of 24 rollouts: expected a response from the store of ")
    assert {text for each in numbers["rejects"] for _, text in each["examples"]} == {None}
    assert [each.getMessage().split(" in ")[0] for each in caplog.records] == [
        f"store: try {number}" for number in (2, 3, 4)
    ]


def test_a_store_that_cannot_be_opened_does_not_prevent_a_page(
    in_store: tuple[str, str], lead_elsewhere: Callable[[str], None], tmp_path: Path
) -> None:
    lead_elsewhere("http://192.0.2.1")
    numbers = bisieve.open_index(in_store[0]).write_html(str(tmp_path / "page.html"), image_root=in_store[1])
    (note,) = numbers["not_read"]
    assert note.startswith("the text of 24 of 24 rollouts: expected TLS to the store of ")
