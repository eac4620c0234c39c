"""Where nothing can be written is found out before the work."""

import subprocess
import sys
from pathlib import Path

import pytest

from bisieve.errors import StorageError
from bisieve.io.storage import require_writable, stored_files


def test_a_folder_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    require_writable(str(tmp_path / "a/b"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for url in (tmp_path / "file", tmp_path / "file/index"):
        with pytest.raises(StorageError, match=rf"a folder at {tmp_path}/file; found a file"):
            require_writable(str(url))


def test_a_folder_without_rights_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    code = (
        "import os, sys\nfrom bisieve.io.storage import require_writable\n"
        "from bisieve.errors import StorageError\n"
        "os.getuid() or os.setuid(65534)\n"  # root may do everything
        "try:\n    require_writable(sys.argv[1])\nexcept StorageError as error:\n    print(error)"
    )
    url = str(tmp_path / "a")
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=True)
    assert f"expected permission to use {url}; found Permission denied: user " in done.stdout


def test_a_store_is_asked_and_nothing_stays_there(s3: str, tmp_path: Path) -> None:
    require_writable(f"{s3}/{tmp_path.name}/index")
    assert stored_files(f"{s3}/{tmp_path.name}") == []
