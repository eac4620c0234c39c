"""Files get to a store that fails, whole or not at all."""

from pathlib import Path

import pytest
from support.faulty_proxy import FaultyProxy

from bisieve.errors import StorageError
from bisieve.io import storage
from bisieve.io.retry import Persistence
from bisieve.io.storage import PIECE, upload


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """More than goes up in one request."""
    file = tmp_path / "large"
    with file.open("wb") as target:
        target.truncate(4 * PIECE)
    return file


def test_a_large_file_whose_parts_are_refused_is_tried_again_and_each_piece_is_progress(
    s3: str, faulty_s3: FaultyProxy, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # of the layers below: no patience of their own
    faulty_s3.harm(1.0, ["reset"], only=lambda method, path: "uploads" in path)
    url = f"{s3}/uploads-of/large"
    with pytest.raises(StorageError, match="a response from the store"):
        upload(large, url)

    tries = 0

    def tried() -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            faulty_s3.calm()
        upload(large, url, lambda: pieces.append(tries))

    pieces: list[int] = []
    Persistence(60)(tried)
    assert tries == 3
    assert pieces.count(3) == 4
    assert [file.size for file in storage.list_files(f"{s3}/uploads-of")] == [4 * PIECE]


def test_what_will_not_pass_is_not_tried_again(tmp_path: Path) -> None:
    tries = []

    def refused() -> None:
        tries.append(1)
        raise StorageError("leave", "none", "check the credentials") from PermissionError()

    with pytest.raises(StorageError, match="credentials"):
        Persistence(60)(refused)
    assert len(tries) == 1
