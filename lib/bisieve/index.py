"""A published index as a reader sees it: one version, named by the manifest."""

from dataclasses import dataclass

from bisieve.errors import IndexUnusableError
from bisieve.index_files import open_part
from bisieve.manifest import MANIFEST, Manifest, read_manifest, version_folder
from bisieve.reading import Layout
from bisieve.shards import list_shards
from bisieve.storage import FileInfo, canonical, exists, join, stored_files


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
    """The shards as they were when they were scanned, each with its layout.

    `IndexUnusableError` when the list of them is missing or damaged.
    """
    with open_part(index.url, index.manifest.shards) as part:
        table = part.read()
    return {FileInfo(row["url"], row["size"], row["etag"]): row["layout"] for row in table.to_pylist()}


def missing_files(index: Index) -> list[str]:
    """The files that the manifest names and that are not there, or not in the size that was written.

    Paths relative to the index, from one listing of the version's folder.
    """
    stored = stored_files(join(index.url, version_folder(index.fingerprint)))
    sizes = {file.url.removeprefix(join(index.url, "")): file.size for file in stored}
    parts = (index.manifest.shards, *index.manifest.files, *index.manifest.rejects)
    return [part.path for part in parts if sizes.get(part.path) != part.bytes]


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
