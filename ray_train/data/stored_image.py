"""An image as its store gives it, read in a rank's threads; decoded where there is a CPU to spare."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bisieve import storage
from bisieve.errors import TrainingError
from bisieve.images import decode_image, image_bytes
from ray_train.data.image_cache import ImageCache, default_folder

if TYPE_CHECKING:
    from PIL.Image import Image


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
