"""Open a published index and read the files of one version."""

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
from bisieve.io.storage import FileInfo, canonical, exists, join, stored_files
from bisieve.records.options import Layout
from bisieve.schemas import MANIFEST
from bisieve.shards.listing import list_shards

HINT = "restore it, or delete it and run bisieve score again"

Kind = Literal["rollouts", "rejects"]


@dataclass(frozen=True)
class Index:
    """One version of an index; later versions do not disturb it.

    Its lists are read when they are first asked for; `IndexUnusableError` when one is missing or damaged.
    """

    url: str  # canonical
    manifest: Manifest

    def __reduce__(self) -> tuple[type["Index"], tuple[str, Manifest]]:
        """Lists that were read stay behind: tasks on other machines need none."""
        return Index, (self.url, self.manifest)

    @property
    def fingerprint(self) -> str:
        """Names the shards and parameters that the index was made of; 64 hex digits."""
        return self.manifest.fingerprint

    @property
    def files(self) -> list[DataFile]:
        """The files of the ranked rows, in order."""
        return files_of_kind(self._files, "rollouts")

    @property
    def rejects(self) -> list[DataFile]:
        """The files of the rejected records, by shard and offset."""
        return files_of_kind(self._files, "rejects")

    @property
    def paths(self) -> list[str]:
        """All files of the version, relative to the index."""
        parts = [*self.manifest.lists, *self.files, *self.rejects]
        return [version_manifest(self.fingerprint), *(part.path for part in parts)]

    @cached_property
    def sources(self) -> pa.Table:
        """What each source holds, of `schemas.SOURCES`, in the order of their names."""
        return read_table(self.url, self.manifest.sources)

    @property
    def rollouts_by_source(self) -> dict[str, int]:
        """The usable rollouts of each source, in the order of their names."""
        names, rollouts = (self.sources[name].to_pylist() for name in ("source", "rollouts"))
        return dict(zip(names, rollouts, strict=True))

    @cached_property
    def _files(self) -> pa.Table:
        return read_table(self.url, self.manifest.files)


def open_index(url: str) -> Index:
    """The current version of the index at ``url``; `IndexUnusableError` where there is none."""
    url = canonical(url)
    if not exists(join(url, MANIFEST)):
        raise no_index(url)
    return Index(url, read_manifest(url))


def no_index(url: str) -> IndexUnusableError:
    """What to raise where there is no index at ``url``."""
    return IndexUnusableError(f"an index ({MANIFEST}) at {url}", "none", "make one with bisieve score")


def indexed_shards(index: Index) -> list[FileInfo]:
    """The shards as they were when they were scanned."""
    return list(indexed_layouts(index))


def indexed_layouts(index: Index) -> dict[FileInfo, Layout]:
    """The shards as they were when they were scanned, each with its layout.

    `IndexUnusableError` when the list of them is missing or damaged.
    """
    table = read_table(index.url, index.manifest.shards)
    urls, sizes, etags, layouts = (table[name].to_pylist() for name in ("url", "size", "etag", "layout"))
    return dict(zip(map(FileInfo, urls, sizes, etags), layouts, strict=True))


def missing_files(index: Index) -> list[str]:
    """The files of the version that are not there, or not in the size that was written.

    Paths relative to the index, from one listing of the version's folder; where the list of the others is
    lost, only those that the manifest names.
    """
    stored = stored_files(join(index.url, version_folder(index.fingerprint)))
    sizes = {file.url.removeprefix(join(index.url, "")): file.size for file in stored}

    def lost(parts: Sequence[DataFile]) -> list[str]:
        return [part.path for part in parts if sizes.get(part.path) != part.bytes]

    named = lost(index.manifest.lists)
    return named if index.manifest.files.path in named else named + lost([*index.files, *index.rejects])


def check_shards_unchanged(index: Index) -> None:
    """`IndexUnusableError` when a shard has another size or etag now, or is gone.

    The spans of an index hold only for the bytes that were scanned.  Shards that came since are no harm.
    """
    now = {shard.url: shard for shard in list_shards(index.manifest.inputs, index.url)}
    changed = [shard for shard in indexed_shards(index) if now.get(shard.url) != shard]
    if changed:
        was, found = changed[0], now.get(changed[0].url)
        state = "gone" if found is None else f"{found.size} bytes, etag {found.etag}"
        raise IndexUnusableError(
            f"shards as they were indexed ({was.url}: {was.size} bytes, etag {was.etag})",
            f"{len(changed)} changed, this one is now {state}",
            "run bisieve score again",
        )


@contextmanager
def open_part(index_url: str, file: DataFile) -> Iterator[pq.ParquetFile]:
    """A Parquet file of an index; `IndexUnusableError` where it is missing or damaged.

    Read it, as everything, with ``use_threads=False``: a thread of Arrow that holds a Python buffer when
    the process ends makes it abort.
    """
    with _opened(index_url, file) as handle, damage(IndexUnusableError, _expected(index_url, file), HINT):
        yield pq.ParquetFile(handle)


def read_table(index_url: str, file: DataFile) -> pa.Table:
    """A whole Parquet file of an index; `IndexUnusableError` where it is not as it was written."""
    return pq.ParquetFile(pa.BufferReader(read_part(index_url, file))).read(use_threads=False)


def read_part(index_url: str, file: DataFile) -> bytes:
    """The bytes of a file of an index; `IndexUnusableError` where they are not those that were written."""
    with _opened(index_url, file) as handle:
        data = handle.read()
    if len(data) != file.bytes:
        raise IndexUnusableError(_expected(index_url, file), f"{len(data)} bytes", HINT)
    if (found := hashlib.sha256(data).hexdigest()) != file.sha256:
        expected = f"{_expected(index_url, file)}, of sha256 {file.sha256[:16]}"
        raise IndexUnusableError(expected, f"as many of sha256 {found[:16]}", HINT)
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
    """Those of a list of `schemas.FILES`, in order."""
    chosen = files.filter(pc.equal(files["kind"], kind)).drop_columns("kind")
    return [DataFile(**file) for file in chosen.to_pylist()]
