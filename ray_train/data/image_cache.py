"""Read images of a store through a bounded cache on this machine's disk.

    FOLDER/00/… 3f/        shelves, each with its share of the bound and a lock of its own
           00/.lock
           00/HASH         one image behind its checksum; named after its URL, its version and its size

A name stands for one content, so a file is never written twice and never goes stale.
"""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from bisieve.errors import TrainingError
from bisieve.io import storage
from bisieve.io.conditional import locked
from bisieve.io.images import decode_image, image_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

_SHELVES = 64  # so that making room looks at a 64th of the files, and few wait for the same lock
_LOCK, _UNFINISHED = ".lock", ".tmp"
_DIGEST = 16  # bytes, in front of the image's
_UNKNOWN = "None"  # the version of a file in a store that keeps none


def default_folder() -> Path:
    """Where the cache of this user lies on this machine."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "bisieve", "images")


@dataclass(frozen=True)
class ImageCache:
    """Keeps up to ``limit`` bytes of what was read below ``folder``."""

    folder: Path
    limit: int  # bytes, over all processes
    shelves: int = _SHELVES

    def read(self, url: str) -> bytes:
        """The bytes at ``url`` as they are in the store now; `StorageError` where they cannot be read.

        A kept image costs a question for its version, which may change, and no transfer.
        """
        info = storage.file_info(url)
        name = hashlib.sha256(f"{info.url} {info.etag} {info.size}".encode()).hexdigest()
        path = self.folder / f"{int(name[:2], 16) % self.shelves:02x}" / name
        if (kept := _kept(path)) is not None:
            return kept
        data = storage.read_bytes(url)
        if info.etag != _UNKNOWN and len(data) == info.size:
            with suppress(OSError):  # a full or read-only disk costs time and no more
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
    """What is kept at ``path``; None where nothing is, or what a crash of the machine has left of it."""
    try:
        content = path.read_bytes()
        os.utime(path)  # it is the last to go now
    except OSError:
        return None
    digest, data = content[:_DIGEST], content[_DIGEST:]
    return data if xxhash.xxh3_128_digest(data) == digest else None


def _make_room(shelf: Path, bound: int) -> None:
    """Removes the least recently used files of a locked shelf until ``bound`` bytes are left at most."""
    found = []
    with os.scandir(shelf) as entries:
        for entry in entries:
            if entry.name.endswith(_UNFINISHED):  # we hold the lock: whoever wrote it has died
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
    """An image's name, for messages, and its bytes as they are stored."""

    name: str
    data: bytes

    def decode(self) -> "Image":
        """RGB pixels; `ImageError` where there are none to be had."""
        return decode_image(self.data, self.name)


@dataclass(frozen=True)
class ImageReader:
    """Reads images below ``root``, through a cache if there is one."""

    root: str
    cache: ImageCache | None = None

    def read(self, name: str) -> StoredImage:
        """Image ``name``; `ImageError` where it is missing or unreadable."""
        read = self.cache.read if self.cache else storage.read_bytes
        return StoredImage(name, image_bytes(self.root, name, read))


def image_reader(root: str, cache_gb: float, folder: Path | None = None) -> ImageReader:
    """The reader of images below ``root``, with a cache of ``cache_gb`` where they are not on a disk here.

    `TrainingError` where the cache has no place to be.
    """
    if not cache_gb or storage.is_local(root):
        return ImageReader(root)
    folder = folder or default_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"a folder for images at {folder}", str(error), "set XDG_CACHE_HOME, or --image-cache-gb 0"
        ) from error
    return ImageReader(root, ImageCache(folder, int(cache_gb * 1e9)))
