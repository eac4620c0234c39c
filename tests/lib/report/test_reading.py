"""Text and images of rollouts are read from stores as far as these answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.reported import make_reported_in

import bisieve


@pytest.fixture
def in_store(s3: str, tmp_path: Path, score: Callable[..., Any]) -> tuple[str, str]:
    return make_reported_in(s3, tmp_path, score)


def test_a_store_that_does_not_answer_is_waited_for_once(
    in_store: tuple[str, str],
    lead_s3_to: Callable[[str], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lead_s3_to("http://127.0.0.1:9")
    page = str(tmp_path / "page.html")
    numbers = bisieve.open_index(in_store[0]).write_html(page, image_root=in_store[1])
    (note,) = numbers["not_read"]
    assert note.startswith("the text of 24 of 24 rollouts: expected a response from the store of ")
    assert {text for each in numbers["rejects"] for _, text in each["examples"]} == {None}
    assert [each.getMessage().split(" in ")[0] for each in caplog.records] == [
        f"store: try {number}" for number in (2, 3, 4)
    ]


def test_a_store_that_cannot_be_opened_does_not_prevent_a_page(
    in_store: tuple[str, str], lead_s3_to: Callable[[str], None], tmp_path: Path
) -> None:
    lead_s3_to("http://192.0.2.1")
    numbers = bisieve.open_index(in_store[0]).write_html(str(tmp_path / "page.html"), image_root=in_store[1])
    (note,) = numbers["not_read"]
    assert note.startswith("the text of 24 of 24 rollouts: expected TLS to the store of ")
