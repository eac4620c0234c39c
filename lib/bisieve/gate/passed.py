"""Which version of an index passed the gate last: what the next one is compared with.

INDEX/passed.json    {"version": FINGERPRINT, "before": the one that it was compared with, or null}

A version that was refused is the current one, too.  Compared with that, the next would have nothing to drift
from: so the gate remembers what it let pass.
"""

from dataclasses import dataclass

import msgspec

from bisieve.errors import IndexUnusableError, StorageError
from bisieve.index import Index
from bisieve.pointer import Pointer, read_pointer, replace_pointer
from bisieve.storage import join

PASSED = "passed.json"


@dataclass(frozen=True)
class Passed:
    """A version that has passed, by fingerprints."""

    version: str
    before: str | None


def last_passed(index_url: str) -> Passed | None:
    """What passed last, None where nothing has; `IndexUnusableError` where the file is none of the gate's."""
    return _read(read_pointer(join(index_url, PASSED)))


def mark_passed(index: Index, before: Index | None) -> None:
    """Notes that ``index`` has passed; `StorageError` where another version was let pass meanwhile."""
    found = read_pointer(join(index.url, PASSED))
    if _names(found, index):
        return
    passed = Passed(index.fingerprint, before.fingerprint if before else None)
    try:
        replace_pointer(found, msgspec.json.format(msgspec.json.encode(passed), indent=1) + b"\n")
    except StorageError:
        if not _names(read_pointer(found.url), index):
            raise


def _names(found: Pointer, index: Index) -> bool:
    passed = _read(found)
    return passed is not None and passed.version == index.fingerprint


def _read(found: Pointer) -> Passed | None:
    if found.data is None:
        return None
    try:
        return msgspec.json.decode(found.data, type=Passed)
    except msgspec.DecodeError as error:
        raise IndexUnusableError(
            f"what bisieve gate has written at {found.url}", f"something else: {error}",
            "remove it, and name the last good version with --against",
        ) from error  # fmt: skip
