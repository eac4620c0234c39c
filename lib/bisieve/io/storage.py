"""List, read and write files at fsspec URLs.

URLs are canonical here: ``file:///abs/path`` or ``s3://bucket/key``.  Credentials and endpoints come from
the environment alone (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, …).  A file system object is made where it is
used and never crosses a process border: s3fs does not survive a fork.
"""

import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from glob import glob
from operator import attrgetter
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations, registry

from bisieve.errors import StorageError
from bisieve.io.access import check_endpoint, check_no_secret
from bisieve.io.errors import (
    DRIVERS,
    storage_errors,  # who opens a file needs both
)
from bisieve.io.local_output import open_local_output
from bisieve.io.retry import READS, s3_options, say_retries, with_retries

S3 = ("s3://", "s3a://")
SCHEMES = ("file", "s3", "gs", "az", "abfs", "hf", "hdfs")  # that the README names
_GLOB_SIGNS = "*?["
DANGLING = "a link to nothing"  # in place of the etag of a link on a disk whose target is gone


# What stores call it: S3; GCS and Azure; the Hugging Face hub; disks and HDFS; others.
_ETAGS = ("ETag", "etag", "blob_id", "mtime", "LastModified", "last_modified")


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file as a listing saw it."""

    url: str  # canonical
    size: int  # bytes
    etag: str  # the store's etag or, where there is none, the time of the last change


def open_filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of ``url`` and the path of ``url`` inside it."""
    _check_scheme(url)
    check_no_secret(url)
    with storage_errors(url):
        options = s3_options() if url.startswith(S3) else {}
        if _is_plain_path(url):
            fs = fsspec.filesystem("file")
            path = fs._strip_protocol(os.path.expanduser(url))
        else:
            fs, path = fsspec.core.url_to_fs(os.path.expanduser(url), **options)
        if options:
            fs.retries = READS
            say_retries(fs.s3)
            check_endpoint(fs.s3.meta.endpoint_url, url)
        return fs, _collapsed(path) if isinstance(fs, LocalFileSystem) else path


def _is_plain_path(url: str) -> bool:
    """Whether ``::`` in ``url`` belongs to a name on a disk, and chains no file systems as fsspec has it."""
    first = url.split("::")[0]
    return "::" in url and (
        url.startswith("file://") or ("://" not in url and first not in known_implementations)
    )


def _check_scheme(url: str) -> None:
    scheme, separator, _ = url.partition("://")
    known = scheme in known_implementations or scheme in registry
    if separator and "::" not in url and not known:
        if scheme in DRIVERS:  # fsspec knows some schemes only from their driver
            raise StorageError(f"a driver for {url}", "none", f"pip install 'bisieve[{DRIVERS[scheme]}]'")
        raise StorageError(
            f"a URL of a known scheme ({', '.join(SCHEMES)})", f"{scheme}:// in {url}", "correct the URL"
        )


def _collapsed(path: str) -> str:
    """The one spelling of a path on a disk, without ``//``, ``.`` and ``..``; links stay as they are."""
    short = "/" + os.path.normpath(path).lstrip("/")
    # Behind a link, ``..`` leads elsewhere than the spelling says.
    return short if ".." not in path.split("/") or _is_same(short, path) else os.path.realpath(path)


def _is_same(one: str, two: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(two)


def canonical(url: str) -> str:
    """``url`` with its protocol; on a disk absolute, and however it is spelled, the same."""
    fs, path = open_filesystem(url)
    return str(fs.unstrip_protocol(path))


def join(url: str, *names: str) -> str:
    """``url`` with path segments behind it."""
    return "/".join([url.rstrip("/"), *names])


def basename(url: str) -> str:
    """The last path segment of ``url``."""
    return url.rstrip("/").rsplit("/", 1)[-1]


def _info(fs: Any, entry: dict[str, Any]) -> FileInfo:
    etag = next((entry[name] for name in _ETAGS if entry.get(name)), None)
    return FileInfo(fs.unstrip_protocol(entry["name"]), int(entry["size"]), str(etag).strip('"'))


def exists(url: str) -> bool:
    """Whether a file or a folder lies at ``url``; `StorageError` where the store does not answer."""
    fs, path = open_filesystem(url)
    with storage_errors(url):
        fs.invalidate_cache()
        return with_retries(lambda: _is_there(fs, path))


def _is_there(fs: Any, path: str) -> bool:
    try:
        fs.info(path)
    except FileNotFoundError:
        return False
    return True


def list_files(url: str, dangling: bool = False) -> list[FileInfo]:
    """All files at ``url``, a file, a folder (taken with its subfolders) or a glob, ordered by URL.

    What is there under that very name is no glob, whatever signs are in it.
    Hidden files, and those below folders whose names begin with ``_`` or ``.``, are left out as Spark does.
    `StorageError` for a link whose target is gone; with ``dangling`` it is listed, its etag `DANGLING`.
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
    while found:  # a listing can be very long: what is read of it goes at once
        entry = found.pop()
        if _hidden(entry["name"], below=root):
            continue
        if entry["type"] == "dangling":
            link = FileInfo(fs.unstrip_protocol(entry["name"]), 0, DANGLING)
            if not dangling:
                raise link_to_nothing(link.url)
            files.append(link)
        if entry["type"] == "file":
            files.append(_info(fs, entry))
    return sorted(files, key=attrgetter("url"))


def link_to_nothing(url: str) -> StorageError:
    """Return what to raise where a file is needed, and a link on a disk is there whose target is gone."""
    target = os.readlink(url.removeprefix("file://"))
    return StorageError(
        f"a file at {url}", f"{DANGLING}, {target}", "remove the link, or put back what it leads to"
    )


def file_info(url: str) -> FileInfo:
    """The one file at ``url``, as its store knows it now."""
    fs, path = open_filesystem(url)
    with storage_errors(url):
        fs.invalidate_cache()
        return _info(fs, with_retries(lambda: fs.info(path)))


def is_local(url: str) -> bool:
    """Whether ``url`` lies on a disk of this machine, or on one that is mounted there."""
    return isinstance(open_filesystem(url)[0], LocalFileSystem)


@dataclass(frozen=True)
class StoredFile:
    """One file, and when it was written."""

    url: str
    size: int  # bytes
    modified: float  # seconds since 1970


def stored_files(url: str) -> list[StoredFile]:
    """All files below the folder ``url``, hidden ones too; none where there is no such folder."""
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
    known = entry.get("mtime") or entry.get("LastModified") or fs.modified(entry["name"])
    return float(known if isinstance(known, int | float) else known.timestamp())


def remove(urls: Sequence[str]) -> None:
    """Removes files, in this order; one that is gone already is no error."""
    for url in urls:
        fs, path = open_filesystem(url)
        with storage_errors(url), suppress(FileNotFoundError):
            with_retries(partial(fs.rm_file, path))


def file_names(url: str) -> set[str]:
    """The names, relative to the folder ``url``, of all files below it."""
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
    try:
        return dict(fs.info(name))
    except FileNotFoundError:
        if os.path.islink(name):
            return {"name": name, "type": "dangling"}
        raise


def _linked(folder: str, above: frozenset[str] = frozenset()) -> Iterator[str]:
    """All files below a folder on a disk; fsspec passes over what links lead to, such as a hub's cache."""
    here = os.path.realpath(folder)
    if here in above:  # a link to a folder that it lies in
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _linked(entry.path, above | {here})
            else:
                yield entry.path


def real_path(url: str) -> str:
    """What tells a file on a disk from all others, whatever links lead to it; elsewhere its URL."""
    fs, path = open_filesystem(url)
    return os.path.realpath(path) if isinstance(fs, LocalFileSystem) else canonical(url)


def _hidden(path: str, below: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.removeprefix(below).split("/"))


def read_bytes(url: str) -> bytes:
    """All bytes of a file."""
    fs, path = open_filesystem(url)
    # s3fs would ask for pieces at once, and leave zeros where one is short.
    how = {"max_concurrency": 1} if url.startswith(S3) else {}
    with storage_errors(url):
        return bytes(with_retries(lambda: fs.cat_file(path, **how)))


def write_bytes(url: str, data: bytes) -> None:
    """Puts ``data`` at ``url``; a reader sees the old file or the new one, never a part."""
    fs, path = open_filesystem(url)
    if fs.async_impl:  # object stores: one request, or an upload that appears when it is complete
        with storage_errors(url):
            with_retries(lambda: fs.pipe_file(path, data))
        return
    with open_output(url) as file:
        file.write(data)


@contextmanager
def open_output(url: str) -> Iterator[IO[bytes]]:
    """A file that appears at ``url`` when the block ends well, and not at all when it fails."""
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
        file.closed = True  # or its finaliser would upload what was written
        raise
    with storage_errors(url):
        file.close()
        file.commit()


def require_writable(url: str) -> None:
    """`StorageError` unless files can be written into the folder ``url``, which need not be there yet.

    A small file is written and removed: rights alone say nothing of a full disk.
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
