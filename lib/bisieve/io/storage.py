"""List, read and write files at fsspec URLs.

Functions return canonical URLs, such as ``file:///abs/path`` or ``s3://bucket/key``.  Credentials and
endpoints come only from the environment (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, …).  Functions raise
`StorageError` when the store fails.  Transient failures are retried (`bisieve.io.retry`), except that the
caller repeats a whole write through `open_output`.

A file system object is created in the process that uses it and is never passed to another one: s3fs does
not survive a fork.
"""

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from glob import glob
from operator import attrgetter
from pathlib import Path
from typing import IO, Any

from fsspec.implementations.local import LocalFileSystem

from bisieve.errors import StorageError
from bisieve.io.disk import open_local_output, refuse_no_file
from bisieve.io.errors import storage_errors
from bisieve.io.retry import with_retries
from bisieve.io.urls import S3, join, open_filesystem

_GLOB_SIGNS = "*?["
PIECE = 16 << 20  # bytes of an upload that are read and written at once
DANGLING = "a broken symbolic link"  # the etag given to a symbolic link whose target does not exist

# Keys of fsspec's info that identify a file's content: S3; GCS and Azure; the Hugging Face hub; disks and
# HDFS; others.
_ETAGS = ("ETag", "etag", "blob_id", "mtime", "LastModified", "last_modified")


Progress = Callable[[], None]


@dataclass(frozen=True, slots=True)
class FileInfo:
    """URL, size and etag of one file at the time of a listing."""

    url: str  # canonical
    size: int  # bytes
    etag: str  # the store's etag, else the time of the last change, else "None"


def _info(fs: Any, entry: dict[str, Any]) -> FileInfo:
    """Return the `FileInfo` of an entry of fsspec's ``info``, ``find`` or ``glob``."""
    etag = next((entry[name] for name in _ETAGS if entry.get(name)), None)
    return FileInfo(fs.unstrip_protocol(entry["name"]), int(entry["size"]), str(etag).strip('"'))


def exists(url: str) -> bool:
    """Return whether a file or a folder exists at ``url``."""
    fs, path = open_filesystem(url)
    with storage_errors(url):
        fs.invalidate_cache()
        return with_retries(lambda: _is_there(fs, path))


def require(url: str, what: str, hint: str) -> None:
    """Raise `StorageError` unless there is a file at ``url``.

    Args:
        url: The file.
        what: What it is, for the error, as in "a sweep (sweep.json)".
        hint: What the user can do.
    """
    if not exists(url):
        raise StorageError(f"{what} at {url.rpartition('/')[0]}", "none", hint)


def _is_there(fs: Any, path: str) -> bool:
    try:
        fs.info(path)
    except FileNotFoundError:
        return False
    return True


def list_files(url: str, dangling: bool = False) -> list[FileInfo]:
    """Return all files at ``url``, ordered by URL.

    As in Spark, files are skipped if their name, or the name of a folder between ``url`` and the file,
    begins with ``_`` or ``.``.  Of a glob, this concerns only what follows its first glob character.  An
    empty folder gives an empty list.

    Args:
        url: A file, a folder (listed with its subfolders) or a glob.  If a file or folder with exactly this
            name exists, the glob characters in it have no meaning.
        dangling: List a symbolic link whose target does not exist, with size 0 and the etag `DANGLING`,
            instead of raising.

    Raises:
        StorageError: Nothing exists at ``url``, the store fails, or a symbolic link has no target.
    """
    fs, path = open_filesystem(url)
    with storage_errors(url):
        fs.invalidate_cache()
        signs = [path.index(sign) for sign in _GLOB_SIGNS if sign in path]
        if signs and not with_retries(lambda: _is_there(fs, path)):
            found = with_retries(lambda: _glob(fs, path))
            if not found:
                raise FileNotFoundError(url)
            root = path[: min(signs)]
        else:
            entry = with_retries(lambda: fs.info(path))
            found = [entry] if entry["type"] == "file" else with_retries(lambda: _find(fs, path))
            root = path
    files = []
    while found:  # pop: a listing can be very long, and each entry is freed as soon as it is converted
        entry = found.pop()
        if _hidden(entry["name"], below=root):
            continue
        if entry["type"] == "dangling":
            link = FileInfo(fs.unstrip_protocol(entry["name"]), 0, DANGLING)
            if not dangling:
                raise broken_link(link.url)
            files.append(link)
        if entry["type"] == "file":
            files.append(_info(fs, entry))
    return sorted(files, key=attrgetter("url"))


def broken_link(url: str) -> StorageError:
    """Return the error for a symbolic link on a local disk whose target does not exist."""
    target = os.readlink(url.removeprefix("file://"))
    return StorageError(
        f"a file at {url}", f"{DANGLING} to {target}", "remove the link, or restore its target"
    )


def file_info(url: str) -> FileInfo:
    """Return size and etag of the file at ``url`` as its store reports them now, not from a cache."""
    fs, path = open_filesystem(url)
    with storage_errors(url):
        fs.invalidate_cache()
        return _info(fs, with_retries(lambda: fs.info(path)))


@dataclass(frozen=True)
class StoredFile:
    """URL, size and modification time of one file."""

    url: str
    size: int  # bytes
    modified: float  # seconds since the epoch


def stored_files(url: str) -> list[StoredFile]:
    """Return all files below the folder ``url``, hidden ones included; none if the folder does not exist."""
    fs, path = open_filesystem(url)
    with storage_errors(url):
        fs.invalidate_cache()
        entries = with_retries(lambda: fs.find(path, detail=True)).values()
        found = [entry for entry in entries if entry["type"] == "file"]
        return [
            StoredFile(fs.unstrip_protocol(entry["name"]), int(entry["size"]), _modified(fs, entry))
            for entry in found
        ]


def _modified(fs: Any, entry: dict[str, Any]) -> float:
    """Return when a file was modified, in seconds since the epoch; some stores need a request for it."""
    known = entry.get("mtime") or entry.get("LastModified") or fs.modified(entry["name"])
    return float(known if isinstance(known, int | float) else known.timestamp())


def remove(urls: Sequence[str]) -> None:
    """Delete files in the given order; a file that does not exist is skipped."""
    for url in urls:
        fs, path = open_filesystem(url)
        with storage_errors(url), suppress(FileNotFoundError):
            with_retries(partial(fs.rm_file, path))


def remove_empty_folders(urls: Sequence[str], below: str) -> None:
    """Remove the folders of removed files that are empty now, on a local disk; other stores have none.

    Args:
        urls: The files that were removed.
        below: The folder that stays.
    """
    fs, top = open_filesystem(below)
    if not isinstance(fs, LocalFileSystem):
        return
    for folder in {os.path.dirname(open_filesystem(url)[1]) for url in urls}:
        with suppress(OSError):  # it is not empty, or gone already
            while folder.startswith(f"{top}{os.sep}"):
                os.rmdir(folder)
                folder = os.path.dirname(folder)


def local_names(url: str) -> list[str]:
    """Return the names in a folder of a local disk, hidden ones left out; none elsewhere, or without it."""
    fs, path = open_filesystem(url)
    if not isinstance(fs, LocalFileSystem) or not os.path.isdir(path):
        return []
    with storage_errors(url):
        return sorted(name for name in os.listdir(path) if not name.startswith("."))


def file_names(url: str) -> set[str]:
    """Return the paths, relative to the folder ``url``, of all files below it.

    Raises:
        StorageError: The store fails, or a local folder does not exist; in an object store it has no files.
    """
    fs, path = open_filesystem(url)
    with storage_errors(url):
        names = _linked(path) if isinstance(fs, LocalFileSystem) else with_retries(lambda: fs.find(path))
        return {name.removeprefix(path).lstrip("/") for name in names}


def _find(fs: Any, path: str) -> list[dict[str, Any]]:
    if isinstance(fs, LocalFileSystem):
        return [_local_entry(fs, name) for name in _linked(path)]
    return list(fs.find(path, detail=True).values())


def _glob(fs: Any, path: str) -> list[dict[str, Any]]:
    if isinstance(fs, LocalFileSystem):
        return [_local_entry(fs, name) for name in glob(path, recursive=True)]
    return list(fs.glob(path, detail=True).values())


def _local_entry(fs: Any, name: str) -> dict[str, Any]:
    """Return fsspec's info of a local file; a symbolic link without a target gets the type "dangling"."""
    try:
        return dict(fs.info(name))
    except FileNotFoundError:
        if os.path.islink(name):
            return {"name": name, "type": "dangling"}
        raise


def _linked(folder: str, above: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield all files below a local folder, following symbolic links.

    fsspec does not follow them, and the cache of the Hugging Face hub consists of them.
    """
    here = os.path.realpath(folder)
    if here in above:  # a link to one of its own parent folders
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _linked(entry.path, above | {here})
            else:
                yield entry.path


def _hidden(path: str, below: str) -> bool:
    """Return whether a name in ``path``, after the prefix ``below``, begins with ``.`` or ``_``."""
    return any(part.startswith((".", "_")) for part in path.removeprefix(below).split("/"))


def read_bytes(url: str) -> bytes:
    """Return all bytes of the file at ``url``."""
    fs, path = open_filesystem(url)
    # With more than one request at a time, s3fs leaves zeros where a piece is shorter than expected.
    how = {"max_concurrency": 1} if url.startswith(S3) else {}
    with storage_errors(url):
        return bytes(with_retries(lambda: fs.cat_file(path, **how)))


def write_bytes(url: str, data: bytes) -> None:
    """Write ``data`` to ``url`` atomically: a reader sees the old file or the new one, never a part."""
    fs, path = open_filesystem(url)
    if fs.async_impl:  # object stores: one request, or a multipart upload, visible only when complete
        with storage_errors(url):
            with_retries(lambda: fs.pipe_file(path, data))
        return
    with open_output(url) as file:
        file.write(data)


@contextmanager
def open_output(url: str) -> Iterator[IO[bytes]]:
    """Open a file for writing that becomes visible at ``url`` when the block ends, and never if it fails.

    On a local disk, writes raise `StorageError`.  In other stores they raise what the driver raises: a part
    of a large file may be uploaded by a write, so callers wrap their writes in `storage_errors`.
    """
    fs, path = open_filesystem(url)
    if isinstance(fs, LocalFileSystem):
        with open_local_output(url, path) as file:
            yield file
        return
    with storage_errors(url):
        file = fs.open(path, "wb", autocommit=False)
    try:
        yield file
    except BaseException:
        with suppress(Exception):
            file.discard()
        file.closed = True  # else its finaliser uploads what was written
        raise
    with storage_errors(url):
        file.close()
        file.commit()


def no_one() -> None:
    """Do nothing: the default `Progress`."""


def upload(file: Path, url: str, progress: Progress = no_one) -> None:
    """Copy a local file to ``url`` in pieces of `PIECE` bytes, and call ``progress`` after each."""
    with file.open("rb") as source, open_output(url) as target:
        while piece := source.read(PIECE):
            with storage_errors(url):  # a write may upload a part of a large file
                target.write(piece)
            progress()


def require_writable_file(url: str) -> None:
    """Raise `StorageError` unless a file can be written at ``url``; its folder need not exist yet."""
    fs, path = open_filesystem(url)
    if isinstance(fs, LocalFileSystem):
        refuse_no_file(url, path)
    require_writable(url.rpartition("/")[0])


def require_writable(url: str) -> None:
    """Raise `StorageError` unless files can be written into the folder ``url``, which need not exist yet.

    A small file is written and deleted, because permissions do not show whether the disk is full.  On a
    local disk that is done in the nearest existing parent folder; no folder is created.
    """
    fs, path = open_filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        probe = join(url, f".probe-{uuid.uuid4().hex}")
        write_bytes(probe, b"")
        remove([probe])
        return
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        raise StorageError(f"a folder at {path}", "a file", "name a folder")
    with storage_errors(url), tempfile.TemporaryFile(dir=path) as file:
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())
