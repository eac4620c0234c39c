"""Read the images of rollouts, through a cache on the local disk, and report those that cause problems.

`image_reader` makes the `ImageReader` of a run, with or without an `ImageCache`. The cache has a size limit
and is shared by all processes of this machine:

    FOLDER/00/ … 3f/       shelves (subfolders), each with an equal share of the limit and its own lock
           00/.lock
           00/HASH         checksum and bytes of one image; the name is a hash of its URL, etag and size

Each version of an image has a name of its own, so a cached file is never stale.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from bisieve._text import pluralize
from bisieve.errors import ImageError, TrainingError
from bisieve.io import storage
from bisieve.io.disk import cache_folder, locked
from bisieve.io.images import decode_image, image_bytes
from bisieve.io.urls import is_local
from ray_train.distributed.collectives import from_all_ranks

if TYPE_CHECKING:
    from PIL.Image import Image

_SHELVES = 64  # so that an eviction scans 1/64 of the files, and few processes wait for the same lock
_LOCK, _UNFINISHED = ".lock", ".tmp"
_DIGEST = 16  # bytes of the checksum, before the bytes of the image
_UNKNOWN = "None"  # `FileInfo.etag` of a file whose store gives none
_NAMED = 5  # broken images that a line names


@dataclass(frozen=True)
class ImageCache:
    """Least-recently-used cache of files below ``folder``."""

    folder: Path
    limit: int  # bytes, over all processes of this machine
    shelves: int = _SHELVES  # subfolders, at most 256

    def read(self, url: str) -> bytes:
        """Return the bytes at ``url`` as they are in the store now.

        A cached file costs one metadata request, since its version may have changed, and no transfer. A file
        that is not cached yet is added, unless it has no etag, exceeds a shelf's share or the disk refuses.

        Raises:
            StorageError: the file cannot be read.
        """
        info = storage.file_info(url)
        name = hashlib.sha256(f"{info.url} {info.etag} {info.size}".encode()).hexdigest()
        path = self.folder / f"{int(name[:2], 16) % self.shelves:02x}" / name
        if (kept := _kept(path)) is not None:
            return kept
        data = storage.read_bytes(url)
        if info.etag != _UNKNOWN and len(data) == info.size:
            with suppress(OSError):  # a full or read-only disk only makes reading slower
                self._keep(path, data)
        return data

    def _keep(self, path: Path, data: bytes) -> None:
        bound = self.limit // self.shelves
        content = xxhash.xxh3_128_digest(data) + data
        if len(content) > bound:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent / _LOCK):
            _make_room(path.parent, bound - len(content))
            unfinished = path.with_suffix(_UNFINISHED)
            unfinished.write_bytes(content)
            unfinished.rename(path)


def _kept(path: Path) -> bytes | None:
    """Return the bytes cached at ``path``; None if there are none or their checksum does not match.

    A crash of the machine can leave a damaged file. Marks the file as used most recently.
    """
    try:
        content = path.read_bytes()
        os.utime(path)  # evicted last from now on
    except OSError:
        return None
    digest, data = content[:_DIGEST], content[_DIGEST:]
    return data if xxhash.xxh3_128_digest(data) == digest else None


def _make_room(shelf: Path, bound: int) -> None:
    """Remove the least recently used files of a locked shelf until at most ``bound`` bytes remain."""
    found = []
    with os.scandir(shelf) as entries:
        for entry in entries:
            if entry.name.endswith(_UNFINISHED):  # its writer has died: this process holds the lock
                os.unlink(entry)
            elif entry.name != _LOCK:
                found.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
    excess = sum(size for _, size, _ in found) - bound
    for _, size, path in sorted(found):
        if excess <= 0:
            return
        os.unlink(path)
        excess -= size


@dataclass(frozen=True)
class StoredImage:
    """The encoded bytes of an image, and its name for messages."""

    name: str
    data: bytes

    def decode(self) -> "Image":
        """Return the RGB pixels; raise `ImageError` if the bytes cannot be decoded."""
        return decode_image(self.data, self.name)


@dataclass(frozen=True)
class ImageReader:
    """Reader of the images below ``root``, through a cache if there is one."""

    root: str  # URL
    cache: ImageCache | None = None

    def read(self, name: str) -> StoredImage:
        """Return image ``name`` as stored; raise `ImageError` if it cannot be read or is outside ``root``."""
        read = self.cache.read if self.cache else storage.read_bytes
        return StoredImage(name, image_bytes(self.root, name, read))


def image_reader(root: str, cache_gb: float, folder: Path | None = None) -> ImageReader:
    """Return the reader of the images below ``root``; it has a cache unless they are on a local disk.

    Args:
        root: URL.
        cache_gb: limit of the cache in GB (10⁹ bytes); 0: no cache.
        folder: of the cache; by default bisieve's `cache_folder`. It is created.

    Raises:
        TrainingError: the folder of the cache cannot be created.
    """
    if not cache_gb or is_local(root):
        return ImageReader(root)
    folder = folder or cache_folder("images")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"a folder for images at {folder}", str(error), "set XDG_CACHE_HOME, or --image-cache-gb 0"
        ) from error
    return ImageReader(root, ImageCache(folder, int(cache_gb * 1e9)))


def picture_notes(transparent: int, unclear: int, broken: Mapping[str, str] | None = None) -> list[str]:
    """Return a line for each kind of image problem that occurred.

    Args:
        transparent: number of times a transparent image was put on white, once per encoding.
        unclear: number of rollouts whose image placeholders do not match their images one to one.
        broken: broken image -> what is wrong with it; its rollouts were left out.
    """
    lines = []
    if transparent:
        lines.append(f"transparent images on a white background: {transparent:,} (counted per use)")
    if unclear:
        found = pluralize(unclear, "rollout")
        lines.append(f"images moved to the front: placeholders of {found} do not match the images")
    if broken:
        some = "; ".join(f"{name} ({why})" for name, why in sorted(broken.items())[:_NAMED])
        more = "; …" if len(broken) > _NAMED else ""
        lines.append(f"left out: the rollouts of {pluralize(len(broken), 'broken image')}: {some}{more}")
    return lines


def newly_broken(found: Mapping[str, str], known: Mapping[str, str], most: int) -> dict[str, str]:
    """Return the broken images of all ranks that are not in ``known``, ordered by name; a collective.

    Args:
        found: broken images of this rank: name -> what is wrong with it.
        known: broken images of the run so far, equal on all ranks.
        most: number of broken images that the run tolerates.

    Raises:
        ImageError: on all ranks, when the run has more than ``most``; names them all.
    """
    everywhere = {name: why for of_rank in from_all_ranks(dict(found)) for name, why in of_rank.items()}
    everywhere = dict(sorted(everywhere.items()))
    fresh = {name: why for name, why in everywhere.items() if name not in known}
    if fresh:
        check_tolerated({**known, **fresh}, most)
    return fresh


def check_tolerated(broken: Mapping[str, str], most: int) -> None:
    """Raise `ImageError`, which names all ``broken`` images, if there are more than ``most``."""
    if len(broken) > most:
        raise ImageError(
            f"at most {pluralize(most, 'broken image')}",
            f"{len(broken):,}: " + "; ".join(f"{name} ({why})" for name, why in broken.items()),
            "write images under these names, or raise --skip-broken-images; then run the same command again",
        )
