"""Versions of an index: list them, remove unused files, remember which passed the gate.

INDEX/passed.json    {"version": FINGERPRINT, "before": the one that it was compared with, or null}

A version that was refused is the current one, too.  Compared with that, the next would have nothing to drift
from: so the gate remembers what it let pass.
"""

import time
from dataclasses import dataclass

import msgspec

from bisieve.errors import IndexUnusableError, StorageError
from bisieve.index.manifest import Manifest, version_manifest
from bisieve.index.reader import Index, open_index
from bisieve.io.conditional import Pointer, read_pointer, replace_pointer
from bisieve.io.storage import StoredFile, join, read_bytes, remove, stored_files
from bisieve.schemas import MANIFEST

VERSIONS = "versions"

PASSED = "passed.json"


@dataclass(frozen=True)
class Version:
    """One published version."""

    manifest: Manifest
    published: float  # seconds since 1970
    current: bool


def versions(index: Index) -> list[Version]:
    """All versions of which everything is still there, the newest first."""
    found = [
        Version(
            Manifest.from_json(read_bytes(file.url), file.url),
            file.modified,
            file.url == join(index.url, version_manifest(index.fingerprint)),
        )
        for file in _manifest_files(index.url)
    ]
    return sorted(found, key=lambda version: -version.published)


def _manifest_files(index_url: str) -> list[StoredFile]:
    """The manifests of the versions of an index, each beside the files of its version."""
    stored = stored_files(join(index_url, VERSIONS))
    return [file for file in stored if file.url.endswith(f"/{MANIFEST}")]


def open_version(url: str, fingerprint: str | None = None) -> Index:
    """The version of the index at ``url`` whose fingerprint begins so; without one the current version.

    `IndexUnusableError` where there is no index, or not exactly one such version.
    """
    index = open_index(url)
    if fingerprint is None:
        return index
    found = [
        version.manifest
        for version in versions(index)
        if version.manifest.fingerprint.startswith(fingerprint)
    ]
    if len(found) != 1:
        names = ", ".join(manifest.fingerprint[:16] for manifest in found)
        raise IndexUnusableError(
            f"one version of {index.url} whose fingerprint begins with {fingerprint}",
            f"{len(found)}: {names}" if found else "none",
            "bisieve versions lists them",
        )
    return Index(index.url, found[0])


def version_before(index: Index) -> Index | None:
    """The version that was published last before ``index``, the current one; None where none is left."""
    found = versions(index)
    published = next((version.published for version in found if version.current), 0.0)
    # A later one is the remains of a run that was overtaken.
    older = (version.manifest for version in found if not version.current and version.published <= published)
    manifest = next(older, None)
    return None if manifest is None else Index(index.url, manifest)


def version_to_compare_with(index: Index) -> Index | None:
    """The version that passed the gate last; where none has, the one before; None where there is none.

    For a version that has passed already it is the one that it was compared with then, if that is left.
    `IndexUnusableError` where the one that passed is gone.
    """
    passed = last_passed(index.url)
    if passed is None:
        return version_before(index)
    if passed.version != index.fingerprint:
        return open_version(index.url, passed.version)
    return _named(index, passed.before)


def _named(index: Index, fingerprint: str | None) -> Index | None:
    """The version with that fingerprint, None where it is gone."""
    found = (one.manifest for one in versions(index) if one.manifest.fingerprint == fingerprint)
    manifest = next(found, None)
    return None if manifest is None else Index(index.url, manifest)


def unreferenced(index: Index, older_than: float) -> list[StoredFile]:
    """Files of no version that is current or passed the gate last, ``older_than`` seconds old or more.

    Among them are the remains of runs that ended before they published.  Give runs and readers that may
    still be at work on an older version the time to end.
    """
    passed = last_passed(index.url)
    good = _named(index, passed.version) if passed else None
    needed = {join(index.url, path) for one in (index, good) if one for path in one.paths}
    return [
        file
        for file in stored_files(join(index.url, VERSIONS))
        if file.url not in needed and file.modified <= time.time() - older_than
    ]


def clean(index: Index, older_than: float) -> list[StoredFile]:
    """Removes what `unreferenced` finds, manifests first, so that no version is listed by halves."""
    found = sorted(unreferenced(index, older_than), key=lambda file: not file.url.endswith(f"/{MANIFEST}"))
    remove([file.url for file in found])
    return found


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
