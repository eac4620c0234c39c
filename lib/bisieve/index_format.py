"""The format of an index: every manifest says which one it has, and a reader reads the present one alone.

A format is one number for all files of an index.  It rises when a reader of before would misread what is
written now.
"""

import msgspec

from bisieve.errors import IndexUnusableError

FORMAT = "bisieve-index"
FORMAT_VERSION = 1
# How records become rows: it rises when the same shards and parameters give other rows or rejects, so that
# an index of before is scanned again while its readers go on.
ROWS_VERSION = 1
MANIFEST = "manifest.json"
ELSEWHERE = "score the corpus into another --index"  # what helps in any case


class _Head(msgspec.Struct):
    """What every manifest begins with, in all formats."""

    format: str
    format_version: int


def check_format(data: bytes, url: str) -> None:
    """Raise `IndexUnusableError` unless ``data``, read at ``url``, is a manifest of the present format."""
    try:
        head = msgspec.json.decode(data, type=_Head)
    except msgspec.ValidationError as error:
        raise no_manifest(url, f"something else: {error}") from error
    except msgspec.DecodeError as error:
        raise IndexUnusableError(
            f"a manifest at {url}",
            "a file that is cut off or no JSON",
            f"restore it: each versions/FINGERPRINT/{MANIFEST} is a copy of one",
        ) from error
    if head.format != FORMAT:
        raise no_manifest(url, f"format {head.format}")
    if head.format_version != FORMAT_VERSION:
        newer = head.format_version > FORMAT_VERSION
        raise IndexUnusableError(
            f"{FORMAT} version {FORMAT_VERSION} at {url}",
            f"version {head.format_version}",
            "install a newer bisieve" if newer else ELSEWHERE,
        )


def no_manifest(url: str, found: str) -> IndexUnusableError:
    """Return the error for a file at ``url`` that holds something else than a manifest of this format."""
    expected = f"a manifest of {FORMAT} version {FORMAT_VERSION} at {url}"
    return IndexUnusableError(expected, found, ELSEWHERE)
