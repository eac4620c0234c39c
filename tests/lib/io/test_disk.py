"""What is on its way to a store, on this machine's disk; and locks of files, which leave no lock file."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bisieve.io import disk
from bisieve.io.disk import cache_folder, locked

OTHER = "from bisieve.io.disk import *; print(scratch_folder('checkpoint'), flush=True); input()"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where scratch folders of this process and of `other` ones are made."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    disk._ours.cache_clear()
    yield tmp_path
    disk._ours.cache_clear()


def test_what_a_killed_process_has_left_is_removed_and_nothing_else(folder: Path) -> None:
    (folder / "bisieve-corpus").mkdir()
    others = [
        subprocess.Popen([sys.executable, "-c", OTHER], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        killed, alive = (Path(other.stdout.readline().decode().strip()) for other in others if other.stdout)
        ours = disk.scratch_folder("samples")
        os.kill(others[0].pid, signal.SIGKILL)
        others[0].wait()
        assert killed.is_dir()
        disk.remove_orphans()
        assert not killed.parent.exists()
        assert alive.is_dir()
        assert ours.is_dir()
        assert (folder / "bisieve-corpus").is_dir()
    finally:
        for other in others:
            other.kill()
            other.communicate()


def test_a_worker_begins_by_clearing_up_and_leaves_nothing(folder: Path) -> None:
    orphan = folder / "bisieve-scratch-orphan"
    (orphan / "checkpoint").mkdir(parents=True)
    with disk.tidy_scratch(), disk.passing_folder("restore") as passing:
        assert not orphan.exists()
        assert passing.is_dir()
    assert not list(folder.iterdir())


def test_what_is_still_on_its_way_when_a_worker_ends_stays_until_its_process_is_gone(folder: Path) -> None:
    with disk.tidy_scratch():
        part = disk.scratch_folder("checkpoint")
    disk.remove_orphans()
    assert part.is_dir()


def test_a_folder_that_was_taken_for_a_dead_ones_before_it_was_held_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    mkdtemp = tempfile.mkdtemp

    def robbed(prefix: str, dir: Path | None = None) -> str:
        made.append(mkdtemp(prefix=prefix, dir=dir))
        if len(made) == 1:
            disk.remove_orphans()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", robbed)
    assert disk.scratch_folder("checkpoint").parent == Path(made[1])


@pytest.mark.parametrize("name", ["short", "l" * 120])
def test_a_fork_server_starts_however_long_the_path_of_tmpdir_is(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    code = (
        "from bisieve.io.disk import choose_socket_folder\n"
        "from multiprocessing import forkserver, util\n"
        "choose_socket_folder(); forkserver.ensure_running(); print(util.get_temp_dir())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(folder)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert Path(done.stdout).parent == (folder if len(str(folder)) < 70 else Path("/tmp"))
    assert not list(folder.iterdir()), "it ends with its process"


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


@pytest.mark.parametrize(
    ("given", "expected"),
    [("/kept", "/kept/bisieve/images"), ("", "/home/me/.cache/bisieve/images"),
     ("kept", "/home/me/.cache/bisieve/images")],
)  # fmt: skip
def test_the_cache_is_below_xdg_cache_home_if_that_is_an_absolute_path(
    given: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert str(cache_folder("images")) == expected
