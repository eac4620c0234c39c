"""A published index as a reader sees it: one version, named by the manifest."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from bisieve.errors import IndexUnusableError
from bisieve.file_list import files_of_kind
from bisieve.index_files import read_table
from bisieve.manifest import MANIFEST, DataFile, Manifest, read_manifest, version_folder, version_manifest
from bisieve.reading import Layout
from bisieve.shards import list_shards
from bisieve.storage import FileInfo, canonical, exists, join, stored_files


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
        """What each source holds, of `schema.SOURCES`, in the order of their names."""
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
