"""Files on disks of this machine: atomic writes, locks that end with their process, and temporary folders.

TMPDIR/bisieve-scratch-RANDOM/       one per process, which holds a lock on it until the process ends
       checkpoint-RANDOM/ …          one per `scratch_folder`

Scratch folders hold files on their way to or from a store. A killed process cannot delete its folder; the
next process that uses `tidy_scratch` does. What is kept for later runs is in `cache_folder`.
"""

import fcntl
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from bisieve.errors import DiskError, StorageError
from bisieve.io.errors import disk_errors, storage_errors

_BUFFER = 1 << 16  # bytes
_PREFIX = "bisieve-scratch-"
_LONGEST_SOCKET = 103  # bytes of a Unix socket's path on macOS; 107 on Linux
# A name as `multiprocessing` gives a socket below the temporary folder.
_SOCKET_NAME = "/pymp-12345678/listener-12345678"
_SHORT = "/tmp"
_ELSEWHERE = "set TMPDIR to a folder on another disk"


# ---- Atomic writes -----------------------------------------------------------------------------------------


@contextmanager
def open_local_output(url: str, path: str) -> Iterator[IO[bytes]]:
    """Open a temporary file for writing, and rename it to ``path`` when the block ends without an error.

    Missing parent folders are created.  If ``path`` is a symbolic link, its target is replaced and the link
    stays.  After an error the temporary file is deleted.

    Raises:
        StorageError: The file cannot be written, or ``path`` is a folder, a device or a pipe: the rename
            would replace a device or a pipe by a file.
    """
    refuse_no_file(url, path)
    path = os.path.realpath(path)
    # An object store shows an object when its upload ends; on a disk only a rename is as atomic.
    unfinished = f"{path}.{uuid.uuid4().hex}.tmp"
    with storage_errors(url):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = _Output(io.FileIO(unfinished, "wb"), url)
    try:
        yield file
        with storage_errors(url):
            file.close()
            os.replace(unfinished, path)
    except BaseException:
        with suppress(StorageError):  # on a full disk the rest of the buffer cannot be written either
            file.close()
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise


def refuse_no_file(url: str, path: str) -> None:
    """Raise `StorageError` if there is something at ``path``, the path of ``url``, that is no file."""
    if os.path.exists(path) and not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "a device or a pipe"
        raise StorageError(f"a path for a file at {url}", kind, "choose another path")


class _Output(io.BufferedWriter):
    """File whose own writes raise `StorageError` about ``url``.

    An `OSError` that the caller's code raises in the same block is not converted.
    """

    def __init__(self, raw: io.RawIOBase, url: str) -> None:
        super().__init__(raw, _BUFFER)
        self._url = url

    def write(self, data: Any) -> int:
        with storage_errors(self._url):
            return super().write(data)

    def writelines(self, lines: Iterable[Any]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with storage_errors(self._url):
            super().flush()

    def close(self) -> None:
        with storage_errors(self._url):
            super().close()


# ---- Locks -------------------------------------------------------------------------------------------------


@contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock file at ``path`` while the block runs, then remove it.

    Waits for as long as another process of this machine holds the lock.
    """
    while True:
        with open(path, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(file, path):  # the last holder has removed it meanwhile
                continue
            try:
                yield
            finally:
                with suppress(OSError):  # the disk may be read-only by now
                    os.unlink(path)
            return


def _is_at(file: IO[bytes], path: str | os.PathLike[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def hold(folder: str | os.PathLike[str]) -> int:
    """Lock a folder and return the file descriptor that holds the lock; closing it releases the lock.

    Raises:
        BlockingIOError: Another process holds the lock.
        OSError: There is no such folder.
    """
    holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(folder)  # the previous holder may have removed it
    except OSError:
        os.close(holder)
        raise
    return holder


# ---- Temporary folders -------------------------------------------------------------------------------------


def scratch_folder(name: str) -> Path:
    """Create a folder in this process's scratch folder, and return it; the caller deletes it.

    It is below ``TMPDIR``, and its name begins with ``name``.

    Raises:
        DiskError: The folder cannot be created.
    """
    with scratch_errors(temporary_folder()):
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_ours()[0]))


def scratch_errors(folder: Path) -> AbstractContextManager[None]:
    """Convert disk errors in ``folder``, a scratch folder, into a `DiskError` whose hint names ``TMPDIR``."""
    return disk_errors(folder, _ELSEWHERE)


@contextmanager
def passing_folder(name: str) -> Iterator[Path]:
    """Create a `scratch_folder` and delete it when the block ends.

    Errors of its disk inside the block are raised as `DiskError`.
    """
    folder = scratch_folder(name)
    try:
        with scratch_errors(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def tidy_scratch() -> Iterator[None]:
    """Delete the scratch folders of dead processes; at the end of the block, this process's own if empty."""
    remove_orphans()
    try:
        yield
    finally:
        with suppress(OSError):  # not empty: a file is still being written or uploaded
            root, holder = _ours()
            root.rmdir()
            os.close(holder)
            _ours.cache_clear()


def remove_orphans() -> None:
    """Delete the scratch folders of processes that have ended, as far as this user may."""
    for folder in temporary_folder().glob(f"{_PREFIX}*"):
        with suppress(OSError):  # its process is alive, or it belongs to another user
            holder = hold(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(holder)


def choose_socket_folder() -> None:
    """Create the folder of `multiprocessing`'s sockets; in ``/tmp`` if the path of ``TMPDIR`` is too long.

    Call it before the first fork server of a process starts; later calls have no effect.

    Raises:
        DiskError: The folder cannot be created.
    """
    from multiprocessing import util

    folder = temporary_folder()
    with scratch_errors(folder):
        if len(os.fsencode(folder)) + len(_SOCKET_NAME) > _LONGEST_SOCKET:
            before, tempfile.tempdir = tempfile.tempdir, _SHORT
            try:
                util.get_temp_dir()
            finally:
                tempfile.tempdir = before
        else:
            util.get_temp_dir()


def temporary_folder() -> Path:
    """Return Python's folder for temporary files.

    Raises:
        DiskError: None of the places that Python tries is writable.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # its text lists the places that were tried
        raise DiskError("a folder for temporary files", str(error.strerror), _ELSEWHERE) from error


def cache_folder(name: str) -> Path:
    """Return this user's folder ``name`` for what bisieve keeps between runs; it may not exist yet.

    It is below ``XDG_CACHE_HOME``, or below ``~/.cache`` where that is not set, empty or no absolute path,
    as the XDG specification says.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "bisieve" / name


@cache
def _ours() -> tuple[Path, int]:
    """Return the scratch folder of this process, and the file descriptor that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Between the two calls another process may lock and delete the folder as one of a dead process.
        with suppress(BlockingIOError, FileNotFoundError):
            return folder, hold(folder)
