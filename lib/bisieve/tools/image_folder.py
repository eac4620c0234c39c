"""Write the images that are embedded in records to a folder, or refuse them if the user named none.

Both are a `records.embedded_images.Save`: they take the images of a record, and return their new names.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import xxhash

from bisieve.errors import ImageError, UsageError
from bisieve.io import storage
from bisieve.io.urls import join
from bisieve.records.embedded_images import Picture

_WRITERS = 16  # threads that write images: a store has a high latency but serves many requests at once


class ImageFolder:
    """A folder that images are written to, and the names given to them so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._contents: dict[str, bytes] = {}  # name → hash of the image's bytes

    def save(self, pictures: Sequence[Picture]) -> list[str]:
        """Write ``pictures`` to the folder; skip those that are there already.

        Returns:
            Their names, relative to the folder, in the order of ``pictures``. A name is the path that the
            record gives. It is or contains a hash of the bytes if there is no path, if the path is unsafe, or
            if this object has given it to another image.

        Raises:
            ImageError: A file of that name, from an earlier export, has other bytes.
            StorageError: The folder cannot be read or written.
        """
        new: dict[str, bytes] = {}
        names = []
        for picture in pictures:
            name, is_new = self._named(picture)
            names.append(name)
            if is_new:
                new[name] = picture.data
        with ThreadPoolExecutor(_WRITERS) as pool:
            list(pool.map(self._write, new, new.values()))
        return names

    def _named(self, picture: Picture) -> tuple[str, bool]:
        """Return the name of an image, and whether this object has not written it yet."""
        content = xxhash.xxh3_128_digest(picture.data)
        name = str(PurePosixPath(picture.name))
        if self._contents.get(name, content) != content:
            name = f"{PurePosixPath(name).with_suffix('')}-{picture.hashed_name}"
        is_new = name not in self._contents
        self._contents[name] = content
        return name, is_new

    def _write(self, name: str, data: bytes) -> None:
        url = join(self.url, name)
        if not storage.exists(url):
            storage.write_bytes(url, data)
        elif storage.read_bytes(url) != data:
            raise ImageError(
                f"no other image at {url}", "one of other bytes", "name a new folder with --images"
            )


def refuse(pictures: Sequence[Picture]) -> list[str]:
    """Refuse embedded images: the ``save`` that is used when the user named no folder for them.

    Raises:
        UsageError: There is a picture.
    """
    if pictures:
        raise UsageError(
            "--images FOLDER, as images of the selection are in its records",
            f"no --images, and an image of {len(pictures[0].data):,} bytes",
            "name the folder to write such images to, which is then the --image-root",
        )
    return []
