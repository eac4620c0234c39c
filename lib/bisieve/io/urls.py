"""URLs of files and stores: canonical forms, what their parts say, which are refused, how they are opened.

A URL with a secret inside is refused, and so is plain HTTP to another machine: over it, anyone on the network
path can read and change the corpus.
"""

import os
import socket
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations, registry

from bisieve._redact import CREDENTIALS, SIGNED, without_secrets
from bisieve.errors import StorageError, UsageError
from bisieve.io.errors import DRIVERS, storage_errors
from bisieve.io.retry import READS, s3_options, say_retries

S3 = ("s3://", "s3a://")
SCHEMES = ("file", "s3", "gs", "az", "abfs", "hf", "hdfs")  # named in errors; as in the README


# ---- How a URL is opened, and its canonical form -----------------------------------------------------------


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


# ---- What the URL of a shard says of it --------------------------------------------------------------------

CODECS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2", ".xz": "xz"}

PARQUET = (".parquet", ".parq", ".pq")
_LINES = (".jsonl", ".ndjson", ".jsonlines")
SUFFIXES = (*(f"{kind}{codec}" for kind in _LINES for codec in ("", *CODECS)), *PARQUET)  # case-insensitive

_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"  # the value that Hive and Spark write for null


def codec_of(url: str) -> str | None:
    """Return the compression of the shard at ``url`` (a value of `CODECS`), or None if it has none.

    Only a shard without compression can be read from any offset.
    """
    return next((codec for suffix, codec in CODECS.items() if url.lower().endswith(suffix)), None)


def is_parquet(url: str) -> bool:
    """Return whether the shard at ``url`` is Parquet; all others are JSONL."""
    return url.lower().endswith(PARQUET)


def check_names_lines(url: str, flag: str) -> None:
    """Raise `UsageError` if the name of a file for plain JSON lines says that it is compressed or Parquet.

    Args:
        url: The file that is to be written.
        flag: The option that named it, for the error.
    """
    if wrong := [suffix for suffix in (*CODECS, *PARQUET) if url.lower().endswith(suffix)]:
        raise UsageError(f"a name for plain JSON lines as {flag}", url, f"leave off {wrong[0]}")


def is_seekable(url: str) -> bool:
    """Return whether single records can be read by their byte ranges: the shard is uncompressed JSONL."""
    return codec_of(url) is None and not is_parquet(url)


def file_stem(url: str) -> str:
    """Return a shard's file name without its suffix (one of `SUFFIXES`)."""
    name = basename(url)
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def partition_value(url: str, name: str) -> str | None:
    """Return the value of the nearest parent folder ``name=value`` of a shard, percent-decoded.

    It is None if there is no such folder, or if its value is Hive's null.
    """
    for folder in reversed(url.split("/")[:-1]):
        key, equals, value = folder.partition("=")
        if equals and unquote(key) == name and value != _NO_PARTITION:
            return unquote(value)
    return None


def folder_name(url: str) -> str:
    """Return the name of the folder that contains a shard."""
    return url.rsplit("/", 2)[-2]


# ---- What is refused, and what cannot be reached -----------------------------------------------------------

PLAIN_HTTP = "BISIEVE_PLAIN_HTTP"  # HOST:PORT of endpoints allowed without TLS, separated by commas

_CONNECT_SECONDS = 3


def check_no_secret(url: str) -> None:
    """Raise `UsageError` if ``url``, or a URL inside it, contains a password or a signature."""
    signed = SIGNED.search(url)
    if signed or CREDENTIALS.search(url):
        # `without_secrets` ends a query at the first space, and this one may contain a space.
        shown = f"{url.partition('?')[0]}?***" if signed else url
        raise UsageError(
            "URLs without credentials", without_secrets(shown),
            "set them in the environment (for S3: AWS_PROFILE, AWS_ACCESS_KEY_ID, or an instance role)",
        )  # fmt: skip


def check_endpoint(endpoint: str, url: str) -> None:
    """Raise `StorageError` if the store of ``url`` would be used at an ``endpoint`` without TLS.

    Endpoints on this machine, and those listed in ``BISIEVE_PLAIN_HTTP``, are allowed.
    """
    at = urlsplit(endpoint)
    named = [one.strip() for one in os.environ.get(PLAIN_HTTP, "").split(",")]
    if at.scheme != "http" or _place(endpoint) in named or _is_this_machine(at.hostname or ""):
        return
    place = _place(without_secrets(endpoint))  # mask first: a slash in a password would end the netloc
    raise StorageError(
        f"TLS to the store of {url}", f"the endpoint http://{place}",
        f"use an https:// endpoint, or allow this one: {PLAIN_HTTP}={place}",
    )  # fmt: skip


def _place(endpoint: str) -> str:
    """Return ``HOST:PORT`` of an endpoint, without a user name and password."""
    return urlsplit(endpoint).netloc.rpartition("@")[2]


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a host name, not an address
        return False


def is_reachable(url: str) -> bool:
    """Return whether a TCP connection to the host and port of ``url`` (http or https) succeeds in 3 seconds.

    If requests go through a proxy this cannot be known, and the result is True.
    """
    at = urlsplit(url)
    host = at.hostname or ""
    if at.scheme in getproxies() and not proxy_bypass(host):
        return True
    port = at.port or (80 if at.scheme == "http" else 443)
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
