"""The one door to every store: fsspec URLs in, listings and bytes out.

URLs are canonical here: ``file:///abs/path`` or ``s3://bucket/key``.  Credentials and endpoints come from
the environment alone (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, …).  A file system object is made where it is
used and never crosses a process border: s3fs does not survive a fork.
"""

import os
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

from bisieve.errors import BisieveError, StorageError
from bisieve.patience import READS, patiently, replaced_while_read, s3_options

S3 = ("s3://", "s3a://")

# Which extra of this package brings the driver of a URL scheme.
DRIVERS = {
    "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure",
    "hf": "hf",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file as a listing saw it."""

    url: str  # canonical
    size: int  # bytes
    etag: str  # the store's etag or, where there is none, the time of the last change


# What stores call it: S3; GCS and Azure; the Hugging Face hub; disks and HDFS; others.
_ETAGS = ("ETag", "etag", "blob_id", "mtime", "LastModified", "last_modified")


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turns whatever a store raises about ``url`` into one `StorageError`."""
    try:
        yield
    except BisieveError:
        raise
    except FileNotFoundError as error:
        name = str(error.filename or "")  # a link that leads nowhere is told by its own name
        missing = url if url.endswith(name) else name
        raise StorageError(f"a file or folder at {missing}", "nothing", "check the URL") from error
    except PermissionError as error:
        raise StorageError(
            f"leave to use {url}", _reason(error), "check the credentials in the environment"
        ) from error
    except ImportError as error:
        extra = DRIVERS.get(url.split("://")[0])
        mend = f"pip install 'bisieve[{extra}]'" if extra else "install the fsspec package for this store"
        raise StorageError(f"a driver for {url}", _reason(error), mend) from error
    except OSError as error:
        if not replaced_while_read(error):
            raise _no_answer(url, error) from error
        raise StorageError(
            f"{url} to stay as it is while it is read", "another file there", "run again when it is complete"
        ) from error
    except Exception as error:  # stores raise what they like: botocore, aiohttp, OSError, ValueError
        raise _no_answer(url, error) from error


def _no_answer(url: str, error: Exception) -> StorageError:
    return StorageError(
        f"an answer from the store of {url}",
        f"{type(error).__name__}: {_reason(error)}",
        "check the URL, the network, the endpoint and the credentials",
    )


def _reason(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def open_filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of ``url`` and the path of ``url`` inside it."""
    with storage_errors(url):
        options = s3_options() if url.startswith(S3) else {}
        fs, path = fsspec.core.url_to_fs(os.path.expanduser(url), **options)
        if options:
            fs.retries = READS
        return fs, path


def canonical(url: str) -> str:
    """``url`` with its protocol, and absolute where the store is a disk."""
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
        try:
            patiently(lambda: fs.info(path))
        except FileNotFoundError:
            return False
        return True


def list_files(url: str) -> list[FileInfo]:
    """All files at ``url``, a file, a folder (taken with its subfolders) or a glob, ordered by URL.

    Hidden files, and those below folders whose names begin with ``_`` or ``.``, are left out as Spark does.
    """
    fs, path = open_filesystem(url)
    with storage_errors(url):
        fs.invalidate_cache()
        if any(sign in path for sign in "*?["):
            found = patiently(lambda: _glob(fs, path))
            if not found:
                raise FileNotFoundError(url)
            root = path[: min(path.index(sign) for sign in "*?[" if sign in path)]
        else:
            entry = patiently(lambda: fs.info(path))
            found = [entry] if entry["type"] == "file" else patiently(lambda: _find(fs, path))
            root = path
        files = [entry for entry in found if entry["type"] == "file"]
    infos = (_info(fs, entry) for entry in files if not _hidden(entry["name"], below=root))
    return sorted(infos, key=attrgetter("url"))


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
        entries = patiently(lambda: fs.find(path, detail=True)).values()
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
            patiently(partial(fs.rm_file, path))


def file_names(url: str) -> set[str]:
    """The names, relative to the folder ``url``, of all files below it."""
    fs, path = open_filesystem(url)
    with storage_errors(url):
        names = _linked(path) if isinstance(fs, LocalFileSystem) else patiently(lambda: fs.find(path))
        return {name.removeprefix(path).lstrip("/") for name in names}


def _find(fs: Any, path: str) -> list[dict[str, Any]]:
    if isinstance(fs, LocalFileSystem):
        return [fs.info(name) for name in _linked(path)]
    return list(fs.find(path, detail=True).values())


def _glob(fs: Any, path: str) -> list[dict[str, Any]]:
    if isinstance(fs, LocalFileSystem):
        return [fs.info(name) for name in glob(path, recursive=True)]
    return list(fs.glob(path, detail=True).values())


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


def _hidden(path: str, below: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.removeprefix(below).split("/"))


def read_bytes(url: str) -> bytes:
    """All bytes of a file."""
    fs, path = open_filesystem(url)
    # s3fs would ask for pieces at once, and leave zeros where one is short.
    how = {"max_concurrency": 1} if url.startswith(S3) else {}
    with storage_errors(url):
        return bytes(patiently(lambda: fs.cat_file(path, **how)))


def write_bytes(url: str, data: bytes) -> None:
    """Puts ``data`` at ``url``; a reader sees the old file or the new one, never a part."""
    fs, path = open_filesystem(url)
    if fs.async_impl:  # object stores: one request, or an upload that appears when it is complete
        with storage_errors(url):
            patiently(lambda: fs.pipe_file(path, data))
        return
    with open_output(url) as file:
        file.write(data)


@contextmanager
def open_output(url: str) -> Iterator[IO[bytes]]:
    """A file that appears at ``url`` when the block ends well, and not at all when it fails."""
    fs, path = open_filesystem(url)
    if isinstance(fs, LocalFileSystem):
        with _open_local_output(url, path) as file:
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


@contextmanager
def _open_local_output(url: str, path: str) -> Iterator[IO[bytes]]:
    # An object store shows an object when its upload ends; on a disk only a rename does the same.
    unfinished = f"{path}.{uuid.uuid4().hex}.tmp"
    with storage_errors(url):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = open(unfinished, "wb")  # noqa: SIM115 - closed before the rename, below
    try:
        yield file
        with storage_errors(url):
            file.close()
            os.replace(unfinished, path)
    except BaseException:
        file.close()
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise
