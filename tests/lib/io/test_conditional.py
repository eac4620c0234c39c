"""Locks of files: one holder at a time, and no lock file is left."""

import threading
import time
from pathlib import Path

from bisieve.io.conditional import locked, read_pointer, replace_pointer


def test_one_at_a_time_holds_a_lock_whose_file_is_then_gone(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "a.lock", 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locked(path):
                inside += 1
                most = max(most, inside)
                assert path.exists()
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_pointer_is_alone_in_its_folder(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/new/pointer.json"
    replace_pointer(read_pointer(url), b"{}")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pointer.json"]
