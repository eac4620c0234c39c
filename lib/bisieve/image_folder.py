"""A folder into which images are written that were in records: each once, and never over another one."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import xxhash

from bisieve import storage
from bisieve.embedded import Picture
from bisieve.errors import ImageError, UsageError

_WRITERS = 16  # images written at the same time: a store answers slowly, but many at once


class ImageFolder:
    """Writes images to a folder and remembers under which names."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._contents: dict[str, bytes] = {}  # name → hash of what was written there

    def save(self, pictures: Sequence[Picture]) -> list[str]:
        """Write ``pictures`` where they are not there yet.

        Returns:
            Their names below the folder: the path of the record, unless that is unsafe or another image has
            it already; then a hash of the bytes is in the name.

        Raises:
            ImageError: where an earlier export left another image at that place.
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
        """Return the name of an image, and whether it has yet to be written."""
        content = xxhash.xxh3_128_digest(picture.data)
        name = str(PurePosixPath(picture.name))
        if self._contents.get(name, content) != content:
            name = f"{PurePosixPath(name).with_suffix('')}-{picture.hashed_name}"
        is_new = name not in self._contents
        self._contents[name] = content
        return name, is_new

    def _write(self, name: str, data: bytes) -> None:
        url = storage.join(self.url, name)
        if not storage.exists(url):
            storage.write_bytes(url, data)
        elif storage.read_bytes(url) != data:
            raise ImageError(
                f"no other image at {url}", "one of other bytes", "name a new folder with --images"
            )


def refuse(pictures: Sequence[Picture]) -> list[str]:
    """Refuse images that are in records, where no folder was given for them; `UsageError`."""
    if pictures:
        raise UsageError(
            "--images FOLDER, as images of the cut are in its records",
            f"no --images, and an image of {len(pictures[0].data)} bytes",
            "name the folder to write such images to, which is then the --image-root",
        )
    return []
