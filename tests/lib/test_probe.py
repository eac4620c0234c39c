"""Where nothing can be written is found out before the work."""

from pathlib import Path

import pytest

from bisieve.errors import StorageError
from bisieve.probe import require_writable
from bisieve.storage import stored_files


def test_a_folder_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    require_writable(str(tmp_path / "a/b"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for url in (tmp_path / "file", tmp_path / "file/index"):
        with pytest.raises(StorageError, match=rf"a folder at {tmp_path}/file; found a file"):
            require_writable(str(url))


def test_a_folder_without_rights_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may do everything
    with pytest.raises(StorageError, match="permission to write"):
        require_writable(str(tmp_path / "a"))


def test_a_store_is_asked_and_nothing_stays_there(s3: str, tmp_path: Path) -> None:
    require_writable(f"{s3}/{tmp_path.name}/index")
    assert stored_files(f"{s3}/{tmp_path.name}") == []
