"""Properties of a shard that follow from its URL: format, compression, stem, folder and partition."""

from urllib.parse import unquote

from bisieve.io.urls import basename

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

    None if there is no such folder, or if its value is Hive's null.
    """
    for folder in reversed(url.split("/")[:-1]):
        key, equals, value = folder.partition("=")
        if equals and unquote(key) == name and value != _NO_PARTITION:
            return unquote(value)
    return None


def folder_name(url: str) -> str:
    """Return the name of the folder that contains a shard."""
    return url.rsplit("/", 2)[-2]
