"""The format of an index: every manifest says which one it has, and a reader reads the present one alone.

A format is one number for all files of an index.  It rises when a reader of before would misread what is
written now; `bisieve.upgrade` then gets a step from the number before.
"""

import json
import re
from typing import Any

from bisieve.errors import IndexUnusableError

FORMAT = "bisieve-index"
FORMAT_VERSION = 3
# How records become rows: it rises when the same shards and parameters give other rows or rejects, so that
# an index of before is scanned again while its readers go on.  1 to 3 were those of the formats.  Since 4 two
# counts are a score, 3.0 is a count, a byte order mark belongs to no record, steps may be in lists and images
# in records.
ROWS_VERSION = 4
MANIFEST = "manifest.json"
ELSEWHERE = "score the corpus into another --index"  # what helps in any case

_COPY = re.compile(rf"(/versions/[0-9a-f]{{16}})?/{re.escape(MANIFEST)}$")


def versioned_fields(data: bytes, url: str) -> tuple[int, dict[str, Any]]:
    """The format's version of the manifest ``data``, and its other fields, which are not looked at.

    `IndexUnusableError` where it is no manifest of an index.
    """
    try:
        fields = json.loads(data)
    except ValueError as error:
        raise IndexUnusableError(
            f"a manifest at {url}",
            "a file that is cut off or no JSON",
            f"restore it: each versions/FINGERPRINT/{MANIFEST} is a copy of one",
        ) from error
    if isinstance(fields, dict) and fields.pop("format", None) == FORMAT:
        version = fields.pop("format_version", None)
        if isinstance(version, int):
            return version, fields
    raise no_manifest(url, "something else")


def require_present(version: int, url: str) -> None:
    """`IndexUnusableError`, with what to do, where the manifest at ``url`` is of another format version."""
    if version == FORMAT_VERSION:
        return
    older = version < FORMAT_VERSION
    raise IndexUnusableError(
        f"{FORMAT} version {FORMAT_VERSION} at {url}",
        f"version {version}",
        f"run bisieve upgrade --index {_COPY.sub('', url)}" if older else "install a newer bisieve",
    )


def no_manifest(url: str, found: str) -> IndexUnusableError:
    """What to raise where the file at ``url`` holds something else than a manifest of this format."""
    expected = f"a manifest of {FORMAT} version {FORMAT_VERSION} at {url}"
    return IndexUnusableError(expected, found, ELSEWHERE)
