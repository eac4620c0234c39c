"""A published index as a reader sees it: one version, named by the manifest."""

import io
from dataclasses import dataclass

import pyarrow.parquet as pq

from bisieve.errors import IndexUnusableError
from bisieve.manifest import MANIFEST, Manifest, read_manifest
from bisieve.reading import Layout
from bisieve.shards import list_shards
from bisieve.storage import FileInfo, canonical, exists, join, read_bytes


@dataclass(frozen=True)
class Index:
    """One version of an index; later versions do not disturb it."""

    url: str  # canonical
    manifest: Manifest

    @property
    def fingerprint(self) -> str:
        """Names the shards and parameters that the index was made of; 64 hex digits."""
        return self.manifest.fingerprint


def open_index(url: str) -> Index:
    """The current version of the index at ``url``; `IndexUnusableError` where there is none."""
    url = canonical(url)
    if not exists(join(url, MANIFEST)):
        raise IndexUnusableError(f"an index ({MANIFEST}) at {url}", "none", "make one with bisieve score")
    return Index(url, read_manifest(url))


def indexed_shards(index: Index) -> list[FileInfo]:
    """The shards as they were when they were scanned."""
    return list(indexed_layouts(index))


def indexed_layouts(index: Index) -> dict[FileInfo, Layout]:
    """The shards as they were when they were scanned, each with its layout."""
    table = pq.read_table(io.BytesIO(read_bytes(join(index.url, index.manifest.shards.path))))
    return {FileInfo(row["url"], row["size"], row["etag"]): row["layout"] for row in table.to_pylist()}


def check_shards_unchanged(index: Index) -> None:
    """`IndexUnusableError` when a shard has another size or etag now, or is gone.

    The spans of an index hold only for the bytes that were scanned.  Shards that came since are no harm.
    """
    now = {shard.url: shard for shard in list_shards(index.manifest.inputs)}
    changed = [shard for shard in indexed_shards(index) if now.get(shard.url) != shard]
    if changed:
        was, found = changed[0], now.get(changed[0].url)
        state = "gone" if found is None else f"{found.size} bytes, etag {found.etag}"
        raise IndexUnusableError(
            f"shards as they were indexed ({was.url}: {was.size} bytes, etag {was.etag})",
            f"{len(changed)} changed, this one is now {state}",
            "run bisieve score again",
        )
