"""URLs of files: canonical forms, parts of paths, and the fsspec filesystem of each."""

import os
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations, registry

from bisieve.errors import StorageError
from bisieve.io.access import check_endpoint, check_no_secret
from bisieve.io.errors import DRIVERS, storage_errors
from bisieve.io.retry import READS, s3_options, say_retries

S3 = ("s3://", "s3a://")
SCHEMES = ("file", "s3", "gs", "az", "abfs", "hf", "hdfs")  # as in the README


def open_filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec file system for ``url``, and the path of ``url`` inside that file system.

    For S3, the retries of s3fs are turned off and those of botocore are logged.

    Raises:
        StorageError: The scheme is unknown, its driver is not installed, the store cannot be opened, or its
            endpoint has no TLS (see `check_endpoint`).
        UsageError: The URL contains credentials.
    """
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
    """Return whether ``::`` is part of a local path and does not chain file systems, as it does in fsspec."""
    first = url.split("::")[0]
    return "::" in url and (
        url.startswith("file://") or ("://" not in url and first not in known_implementations)
    )


def _check_scheme(url: str) -> None:
    scheme, separator, _ = url.partition("://")
    known = scheme in known_implementations or scheme in registry
    if separator and "::" not in url and not known:
        if scheme in DRIVERS:  # fsspec learns some schemes only from an installed driver
            raise StorageError(f"a driver for {url}", "none", f"pip install 'bisieve[{DRIVERS[scheme]}]'")
        raise StorageError(
            f"a URL of a known scheme ({', '.join(SCHEMES)})", f"{scheme}:// in {url}", "correct the URL"
        )


def _collapsed(path: str) -> str:
    """Return a normalised local path, without ``//``, ``.`` and ``..``.

    Symbolic links are resolved only if removing ``..`` from the text would lead to another file.
    """
    short = "/" + os.path.normpath(path).lstrip("/")
    # After a symbolic link, ``..`` is the parent of the link's target, not of the link.
    return short if ".." not in path.split("/") or _is_same(short, path) else os.path.realpath(path)


def _is_same(one: str, two: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(two)


def canonical(url: str) -> str:
    """Return ``url`` with its protocol; for a local path, the absolute and normalised ``file://`` URL."""
    fs, path = open_filesystem(url)
    return str(fs.unstrip_protocol(path))


def join(url: str, *names: str) -> str:
    """Return ``url`` with the path segments ``names`` appended."""
    return "/".join([url.rstrip("/"), *names])


def basename(url: str) -> str:
    """Return the last path segment of ``url``."""
    return url.rstrip("/").rsplit("/", 1)[-1]


def is_local(url: str) -> bool:
    """Return whether ``url`` is a path on a local disk or a mounted file system."""
    return isinstance(open_filesystem(url)[0], LocalFileSystem)


def real_path(url: str) -> str:
    """Return the path of a local file with all symbolic links resolved; in other stores the canonical URL.

    Two local URLs have the same result only if they are the same file.
    """
    fs, path = open_filesystem(url)
    return os.path.realpath(path) if isinstance(fs, LocalFileSystem) else canonical(url)
