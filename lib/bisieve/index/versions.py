"""Versions of an index: list them, remove unused files, and record which one passed the quality gate.

INDEX/passed.json    {"version": FINGERPRINT, "before": the one that it was compared with, or null}

A version that the gate refuses is still the current one.  If the next version were compared with it, a drift
would go unnoticed; so the gate records the last version that passed, and compares with that.
"""

import time
from dataclasses import dataclass

import msgspec

from bisieve._text import pluralize
from bisieve.errors import IndexUnusableError, StorageError
from bisieve.index.manifest import PASSED, VERSIONS, Manifest, version_manifest
from bisieve.index.reader import Index, open_index
from bisieve.io.conditional import Pointer, read_pointer, replace_pointer
from bisieve.io.storage import (
    StoredFile,
    read_bytes,
    remove,
    remove_empty_folders,
    stored_files,
)
from bisieve.io.urls import join
from bisieve.schemas import MANIFEST


@dataclass(frozen=True)
class Version:
    """One published version of an index."""

    manifest: Manifest
    published: float  # when its manifest was written, seconds since 1970
    current: bool  # the index's manifest names it

    def __repr__(self) -> str:
        """Return one line with the fingerprint and the number of rollouts."""
        name = f"{self.manifest.fingerprint[:16]}, {pluralize(self.manifest.rollouts, 'rollout')}"
        return f"<Version {name}{', current' if self.current else ''}>"


def versions(index: Index) -> list[Version]:
    """Return all versions that have not been removed, the newest first."""
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
    """Return the manifest files in the folders of the versions of an index."""
    stored = stored_files(join(index_url, VERSIONS))
    return [file for file in stored if file.url.endswith(f"/{MANIFEST}")]


def open_version(url: str, fingerprint: str | None = None) -> Index:
    """Open a version of the index at ``url``.

    Args:
        url: URL of the index.
        fingerprint: The first digits of the version's fingerprint; None: the current version.

    Raises:
        IndexUnusableError: There is no index, or not exactly one such version.
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
    """Return the version that was published before ``index``, the current one; None if there is none."""
    found = versions(index)
    published = next((version.published for version in found if version.current), 0.0)
    # A version with a later time was never current: its run lost the compare-and-swap of the manifest.
    older = (version.manifest for version in found if not version.current and version.published <= published)
    manifest = next(older, None)
    return None if manifest is None else Index(index.url, manifest)


def version_to_compare_with(index: Index) -> Index | None:
    """Return the version with which the gate compares ``index``, the current one; None if there is none.

    It is the last version that passed the gate, or if none has passed, the version before ``index``.  If
    ``index`` itself is the one that passed last, it is the version that it was compared with then.

    Raises:
        IndexUnusableError: The version that passed last was removed.
    """
    passed = last_passed(index.url)
    if passed is None:
        return version_before(index)
    if passed.version != index.fingerprint:
        return open_version(index.url, passed.version)
    return _named(index, passed.before)


def _named(index: Index, fingerprint: str | None) -> Index | None:
    """Return the version with that whole fingerprint; None if there is none."""
    found = (one.manifest for one in versions(index) if one.manifest.fingerprint == fingerprint)
    manifest = next(found, None)
    return None if manifest is None else Index(index.url, manifest)


def unreferenced(index: Index, older_than: float) -> list[StoredFile]:
    """Return files in the folders of versions that neither the current version nor the last passed one needs.

    They include files of runs that failed before they published.

    Args:
        index: The current version.
        older_than: Smallest age of the files, in seconds; long enough for running jobs that still write or
            read another version.
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
    """Remove the files that `unreferenced` returns and folders that they leave empty; return the files.

    Manifests are removed first, so that no version is listed without its other files.
    """
    found = sorted(unreferenced(index, older_than), key=lambda file: not file.url.endswith(f"/{MANIFEST}"))
    urls = [file.url for file in found]
    remove(urls)
    remove_empty_folders(urls, join(index.url, VERSIONS))
    return found


@dataclass(frozen=True)
class Passed:
    """Content of passed.json: the fingerprint of the last version that passed the gate."""

    version: str
    before: str | None  # fingerprint of the version that it was compared with


def last_passed(index_url: str) -> Passed | None:
    """Read which version passed the gate last; None if none has.

    Raises:
        IndexUnusableError: ``passed.json`` has another content.
    """
    return _read(read_pointer(join(index_url, PASSED)))


def mark_passed(index: Index, before: Index | None) -> None:
    """Record that ``index`` has passed the gate; do nothing if it is recorded already.

    Args:
        index: The version that passed.
        before: The version that it was compared with.

    Raises:
        StorageError: Another version was recorded meanwhile, or the record cannot be written.
    """
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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IndexUnusableError(
            f"the record of bisieve gate at {found.url}", f"other content: {error}",
            "remove it, and name the last good version with --against",
        ) from error  # fmt: skip
