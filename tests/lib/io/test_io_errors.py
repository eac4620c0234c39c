"""A disk that is full, read-only or forbidden: its own words, one try, and nothing left behind."""

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bisieve.errors import DiskError, StorageError
from bisieve.io.errors import disk_error, disk_errors, storage_errors
from bisieve.io.retry import is_transient, with_retries
from bisieve.io.storage import open_output

WORDS = {
    errno.ENOSPC: "room for /x/y; found No space left on device: .* MB free in /; free space",
    errno.EDQUOT: "room for /x/y; found Disk quota exceeded",
    errno.EROFS: "a disk that can be written at /x/y; found Read-only file system",
    errno.EACCES: "permission to use /x/y; found Permission denied: user .* no permission at /",
    errno.EPERM: "permission to use /x/y; found Operation not permitted",
    errno.EFBIG: "room for a file as large as /x/y; found File too large",
    errno.ENAMETOOLONG: "a name short enough for the disk at /x/y; found File name too long",
    errno.EMFILE: "a free file descriptor for /x/y; found Too many open files; .* ulimit -n",
    errno.EISDIR: "a file at /x/y; found a folder",
    errno.ENOTDIR: "a folder at /x/y; found a file",
}


@pytest.mark.parametrize("number", WORDS, ids=errno.errorcode.get)
def test_every_fault_of_a_disk_has_its_own_words_and_is_not_tried_again(number: int) -> None:
    tries = []

    def fail() -> None:
        tries.append(1)
        raise OSError(number, os.strerror(number), "/x/y")

    with pytest.raises(StorageError, match=WORDS[number]) as caught, storage_errors("/x/y"):
        with_retries(fail)
    assert len(tries) == 1
    assert not any(word in str(caught.value) for word in ("network", "endpoint", "credentials", "\n"))


def test_a_fault_of_a_disk_without_own_words_is_still_a_disks() -> None:
    assert disk_error("/x", OSError(errno.EIO, "Input/output error")) is None
    unknown = OSError(errno.ENXIO, "No such device or address")
    expected = r"a working disk at /x; found OSError.*; check the disk"
    with pytest.raises(StorageError, match=expected), storage_errors("/x"):
        raise unknown


LOCAL = {
    "a copy finds no room": (
        OSError(errno.ENOSPC, "No space left on device"),
        "room for a copy of s3://b/x on this machine; found No space left on device; free space there",
    ),
    "a quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), "room for a copy of s3://b/x on this machine"),
    "a named file": (
        OSError(errno.ENOSPC, "No space left on device", "/x/y"),
        "room for /x/y; found No space left on device: .* MB free in /; ",
    ),
    "read-only": (
        OSError(errno.EROFS, "Read-only file system", "/x/y"), "a disk that can be written at /x/y; found",
    ),
    "forbidden": (
        PermissionError(errno.EACCES, "Permission denied", "/x/y"),
        "permission to use /x/y; found Permission denied: user .* no permission at /; change the permissions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", LOCAL)
def test_a_disk_that_refuses_while_a_store_is_used_is_named_and_the_store_is_not(fault: str) -> None:
    error, words = LOCAL[fault]
    with pytest.raises(DiskError, match=words) as caught, storage_errors("s3://b/x"):
        raise error
    assert not any(word in str(caught.value) for word in ("network", "endpoint", "credentials"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError("Access Denied"), "permission to use s3://b/x; .* credentials"),
        (PermissionError(errno.EACCES, "Forbidden"), "permission to use s3://b/x; .* credentials"),
        (OSError(errno.EREMOTEIO, "503"), "a response from the store of s3://b/x"),
    ],
)
def test_what_a_store_refuses_stays_the_stores(error: OSError, words: str, tmp_path: Path) -> None:
    said = pytest.raises(StorageError, match=words)
    with said as caught, storage_errors("s3://b/x"), disk_errors(tmp_path, "set TMPDIR"):
        raise error
    assert not isinstance(caught.value, DiskError)


def test_a_quota_of_hdfs_is_not_called_this_machines() -> None:
    said = "room for hdfs://n/x; found Disk quota exceeded; free space there"
    with pytest.raises(DiskError, match=said), storage_errors("hdfs://n/x"):
        raise OSError(errno.EDQUOT, "quota of /x")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["Python", "Rust"],
)
def test_what_a_disk_refuses_in_a_folder_says_how_to_choose_another(error: Exception, tmp_path: Path) -> None:
    words = f"room for {tmp_path}; found No space left on device: .* MB free in {tmp_path}; .*, or set TMPDIR"
    with pytest.raises(DiskError, match=words) as caught, disk_errors(tmp_path, "set TMPDIR"):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a shape"),
        ConnectionResetError("reset by peer"),
        PermissionError(errno.EACCES, "Permission denied", "/elsewhere/x"),
        StorageError("an answer", "503", "check the URL"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_of_a_folders_disk_no_other_error_is_made_one(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, disk_errors(tmp_path, "set TMPDIR"):
        raise error
    assert caught.value is error


def test_a_new_try_is_said_at_once_with_number_and_reason(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bisieve.io.retry.FIRST_PAUSE", 0.001)
    faults = iter([ConnectionResetError("reset by peer"), TimeoutError("no answer")])

    def work() -> str:
        if (fault := next(faults, None)) is not None:
            assert is_transient(fault)
            raise fault
        return "done"

    with caplog.at_level(logging.WARNING, "bisieve.retries"):
        assert with_retries(work) == "done"
    assert [record.getMessage() for record in caplog.records] == [
        "store: try 2 in 0.0 s, after ConnectionResetError: reset by peer",
        "store: try 3 in 0.0 s, after TimeoutError: no answer",
    ]


def test_an_error_of_the_callers_own_is_not_taken_for_the_disks(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), open_output(str(tmp_path / "a")):
        raise ConnectionResetError("of a read")
    assert not list(tmp_path.iterdir())


# In a mount namespace of its own, so that no mount outlives it.
_ON_FULL_DISK = """
mount -t tmpfs -o size=64k none "$1" || exit 77
shift
exec "$@"
"""

_WRITERS = {
    "write_bytes": "storage.write_bytes(url, bytes(100_000))",
    "many small writes": (
        "\nwith storage.open_output(url) as f:\n  f.writelines(b'x' * 99 for _ in range(2000))"
    ),
    "parquet": (
        "\nimport os, pyarrow as pa, pyarrow.parquet as pq"
        "\nwith storage.open_output(url) as f:\n  pq.write_table(pa.table({'x': [os.urandom(200_000)]}), f)"
    ),
}


def run_on_full_disk(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run ``command`` where ``folder`` is a disk of 64 KiB; it ends by listing what is left there."""
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", _ON_FULL_DISK, "sh", str(folder), *command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("writer", _WRITERS)
def test_a_full_disk_is_named_and_keeps_no_part_of_a_file(writer: str, tmp_path: Path) -> None:
    program = f"""
import os, sys
from bisieve.io import storage
from bisieve.errors import StorageError
folder = sys.argv[1]; url = folder + "/out"
try:
    {_WRITERS[writer].replace(chr(10), chr(10) + "    ")}
except StorageError as error:
    print(error)
print(os.listdir(folder))
"""
    done = run_on_full_disk(tmp_path, [sys.executable, "-c", program, str(tmp_path)])
    said, left = done.stdout.splitlines()
    assert f"expected room for {tmp_path}/out; found No space left on device: 0.0 MB free in" in said
    assert left == "[]"
    assert done.stderr == ""
