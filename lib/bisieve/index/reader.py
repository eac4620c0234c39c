"""Open a published index (`open_index`), read the files of one version, and check that they are whole."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bisieve.errors import IndexUnusableError
from bisieve.index.manifest import DataFile, Manifest, read_manifest, version_folder, version_manifest
from bisieve.io.read import RetryingFile, damage, open_present
from bisieve.io.storage import FileInfo, exists, stored_files
from bisieve.io.urls import canonical, join
from bisieve.ranking.order import selection_limits
from bisieve.records.options import Layout
from bisieve.schemas import MANIFEST
from bisieve.shards.listing import list_shards

HINT = "restore it, or delete it and run bisieve score again"

Kind = Literal["rollouts", "rejects"]


@dataclass(frozen=True)
class Index:
    """One version of an index; it stays readable when later versions are published, until `versions.clean`.

    Attributes that need the lists of sources or files read them on first use, and raise `IndexUnusableError`
    if a list is missing or damaged.
    """

    url: str  # canonical
    manifest: Manifest

    def __reduce__(self) -> tuple[type["Index"], tuple[str, Manifest]]:
        """Pickle without the cached lists, which tasks on other machines do not need."""
        return Index, (self.url, self.manifest)

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the shards and parameters of this version; 64 hex digits."""
        return self.manifest.fingerprint

    @property
    def files(self) -> list[DataFile]:
        """Return the files of the ranked rows, in order."""
        return files_of_kind(self._files, "rollouts")

    @property
    def rejects(self) -> list[DataFile]:
        """Return the files of the rejected records, which are ordered by shard and offset."""
        return files_of_kind(self._files, "rejects")

    def glob(self, kind: Kind) -> str:
        """Return the pattern that matches exactly the Parquet files of one kind."""
        return join(self.url, f"{version_folder(self.manifest.fingerprint)}/{kind}/*.parquet")

    @property
    def paths(self) -> list[str]:
        """Return the paths of all files of the version, relative to the URL of the index."""
        parts = [*self.manifest.lists, *self.files, *self.rejects]
        return [version_manifest(self.fingerprint), *(part.path for part in parts)]

    @cached_property
    def sources(self) -> pa.Table:
        """Return the table of sources with their counts, `schemas.SOURCES`, ordered by name."""
        return read_table(self.url, self.manifest.sources)

    @property
    def rollouts_by_source(self) -> dict[str, int]:
        """Return the number of usable rollouts by source, ordered by name."""
        names, rollouts = (self.sources[name].to_pylist() for name in ("source", "rollouts"))
        return dict(zip(names, rollouts, strict=True))

    def limits(self, fraction: float) -> dict[str, int]:
        """Return, by source, the last rank of the selection of ``fraction``; see `selection_limits`.

        Raises:
            UsageError: ``fraction`` is not in (0, 1].
        """
        parameters, rollouts = self.manifest.parameters, self.rollouts_by_source
        return selection_limits(rollouts, parameters.scope, fraction, self.dropped)

    def selected(self, fraction: float) -> int:
        """Return how many rollouts the selection of ``fraction`` has.

        Raises:
            UsageError: ``fraction`` is not in (0, 1].
        """
        limits, rollouts = self.limits(fraction), self.rollouts_by_source
        if self.manifest.parameters.scope == "global":  # all limits are equal, and count over all sources
            return min(max(limits.values(), default=0), sum(rollouts.values()))
        return sum(min(limits[name], count) for name, count in rollouts.items())

    @property
    def dropped(self) -> dict[str, int]:
        """Return by source how many rollouts are never selected: with ``all_negative="drop"``, these."""
        if self.manifest.parameters.all_negative != "drop":
            return {}
        names, counts = (self.sources[name].to_pylist() for name in ("source", "all_negative"))
        return dict(zip(names, counts, strict=True))

    @cached_property
    def _files(self) -> pa.Table:
        return read_table(self.url, self.manifest.files)


def open_index(url: str) -> Index:
    """Open the current version of the index at ``url``.

    Raises:
        IndexUnusableError: There is no index, or its manifest is not of the format that this version reads.
        StorageError: The store cannot be read.
    """
    url = canonical(url)
    if not exists(join(url, MANIFEST)):
        raise no_index(url)
    return Index(url, read_manifest(url))


def no_index(url: str) -> IndexUnusableError:
    """Return the error for a URL without an index."""
    return IndexUnusableError(f"an index ({MANIFEST}) at {url}", "none", "make one with bisieve score")


def indexed_shards(index: Index) -> list[FileInfo]:
    """Return the shards as they were when they were scanned (URL, size, etag)."""
    return list(indexed_layouts(index))


def indexed_layouts(index: Index) -> dict[FileInfo, Layout]:
    """Return the shards as they were when they were scanned, each with its layout.

    Raises:
        IndexUnusableError: The list of shards is missing or damaged.
    """
    table = read_table(index.url, index.manifest.shards)
    urls, sizes, etags, layouts = (table[name].to_pylist() for name in ("url", "size", "etag", "layout"))
    return dict(zip(map(FileInfo, urls, sizes, etags), layouts, strict=True))


def missing_files(index: Index) -> list[str]:
    """Return the files of the version that are missing or have another size than the one written.

    The version's folder is listed once.  If the list of data files itself is missing, only the files that the
    manifest names are checked.

    Returns:
        Paths relative to the URL of the index.
    """
    stored = stored_files(join(index.url, version_folder(index.fingerprint)))
    sizes = {file.url.removeprefix(join(index.url, "")): file.size for file in stored}

    def lost(parts: Sequence[DataFile]) -> list[str]:
        return [part.path for part in parts if sizes.get(part.path) != part.bytes]

    named = lost(index.manifest.lists)
    return named if index.manifest.files.path in named else named + lost([*index.files, *index.rejects])


def incomplete(index: Index, path: str) -> IndexUnusableError:
    """Return the error for a version of which `missing_files` names a file."""
    return IndexUnusableError(f"{join(index.url, path)} as the index wrote it", "it missing or changed", HINT)


def check_shards_unchanged(index: Index) -> None:
    """Raise `IndexUnusableError` if a shard was changed (size or etag) or removed since it was scanned.

    The spans of an index are valid only for the bytes that were scanned.  New shards are ignored.
    """
    now = {shard.url: shard for shard in list_shards(index.manifest.inputs, index.url)}
    changed = [shard for shard in indexed_shards(index) if now.get(shard.url) != shard]
    if changed:
        was, found = changed[0], now.get(changed[0].url)
        state = "gone" if found is None else f"{found.size:,} bytes, etag {found.etag}"
        raise IndexUnusableError(
            f"shards as they were indexed ({was.url}: {was.size} bytes, etag {was.etag})",
            f"{len(changed):,} changed, this one is now {state}",
            "run bisieve score again",
        )


@contextmanager
def open_part(index_url: str, file: DataFile) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file of an index, to read parts of it.

    Read it with ``use_threads=False``, and without ``pre_buffer``, as everywhere in this package: if an Arrow
    thread holds a Python buffer when the process ends, the process aborts.

    Raises:
        IndexUnusableError: The file is missing, or damage is found while it is read in the block.
    """
    with _opened(index_url, file) as handle, damage(IndexUnusableError, _expected(index_url, file), HINT):
        yield pq.ParquetFile(handle, pre_buffer=False)


def read_table(index_url: str, file: DataFile) -> pa.Table:
    """Read a whole Parquet file of an index; raise `IndexUnusableError` if its bytes have changed."""
    data = pa.BufferReader(read_part(index_url, file))
    return pq.ParquetFile(data, pre_buffer=False).read(use_threads=False)


def read_part(index_url: str, file: DataFile) -> bytes:
    """Read the bytes of a file of an index; raise `IndexUnusableError` if it is missing or has changed."""
    with _opened(index_url, file) as handle:
        data = handle.read()
    if len(data) != file.bytes:
        raise IndexUnusableError(_expected(index_url, file), f"{len(data)} bytes", HINT)
    if (found := hashlib.sha256(data).hexdigest()) != file.sha256:
        expected = f"{_expected(index_url, file)} with sha256 {file.sha256[:16]}"
        raise IndexUnusableError(expected, f"{len(data):,} bytes with sha256 {found[:16]}", HINT)
    return data


def _expected(index_url: str, file: DataFile) -> str:
    return f"the file of {file.bytes} bytes that the index wrote at {join(index_url, file.path)}"


@contextmanager
def _opened(index_url: str, file: DataFile) -> Iterator[RetryingFile]:
    handle = open_present(join(index_url, file.path))
    if handle is None:
        raise IndexUnusableError(_expected(index_url, file), "nothing", HINT)
    with handle:
        yield handle


def files_of_kind(files: pa.Table, kind: Kind) -> list[DataFile]:
    """Return the files of one kind from a table of `schemas.FILES`, in order."""
    chosen = files.filter(pc.equal(files["kind"], kind)).drop_columns("kind")
    return [DataFile(**file) for file in chosen.to_pylist()]
