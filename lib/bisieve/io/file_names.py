"""What the name of a shard says: format, compression, stem, folder and partition."""

from urllib.parse import unquote

from bisieve.io.storage import basename

CODECS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2", ".xz": "xz"}

PARQUET = (".parquet", ".parq", ".pq")
_LINES = (".jsonl", ".ndjson", ".jsonlines")
SUFFIXES = (*(f"{kind}{codec}" for kind in _LINES for codec in ("", *CODECS)), *PARQUET)  # in any case

_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"  # what writers of partitions put for null


def codec_of(url: str) -> str | None:
    """How the shard at ``url`` is compressed; None: it is not, and can be read from any place on."""
    return next((codec for suffix, codec in CODECS.items() if url.lower().endswith(suffix)), None)


def is_parquet(url: str) -> bool:
    """Whether the shard at ``url`` holds rows; the others hold lines."""
    return url.lower().endswith(PARQUET)


def is_seekable(url: str) -> bool:
    """Whether single records of the shard at ``url`` can be read at no more cost than their bytes."""
    return codec_of(url) is None and not is_parquet(url)


def file_stem(url: str) -> str:
    """A shard's file name without the suffix."""
    name = basename(url)
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def partition_value(url: str, name: str) -> str | None:
    """Return what the nearest folder ``name=value`` above a shard says, decoded; None where there is none."""
    for folder in reversed(url.split("/")[:-1]):
        key, equals, value = folder.partition("=")
        if equals and unquote(key) == name and value != _NO_PARTITION:
            return unquote(value)
    return None


def folder_name(url: str) -> str:
    """The name of the folder that a shard lies in."""
    return url.rsplit("/", 2)[-2]
