"""Read the text and images of rows of an index, as far as they can be read: what fails is a note.

rows ──`read_texts`──▶ rollouts with their text ──`Images.of`──▶ small images as data URLs
"""

import base64
import io
from collections.abc import Sequence

import pyarrow as pa

from bisieve.errors import BisieveError, ImageError
from bisieve.index.reader import indexed_shards
from bisieve.io.images import decode_image, image_bytes
from bisieve.io.urls import is_seekable
from bisieve.records.embedded_images import Picture
from bisieve.records.model import Rollout
from bisieve.report.rows import View
from bisieve.shards.fetch import fetch_rollouts, spans_of

SMALL, FULL = (360, 240), (1600, 1600)  # pixels at most, width and height
_QUALITY = 72  # of JPEG
_MOST_IMAGES = 2  # of a rollout
_MOST_PROBLEMS = 5  # after which no more text, or no more images, are read
_MOST_STREAMED = 2**28  # bytes of a shard that is read from its beginning


def read_texts(view: View, rows: pa.Table, saved: dict[str, bytes]) -> tuple[list[Rollout | None], list[str]]:
    """Return the rollouts of ``rows``, None where a record cannot be read, and a note on these.

    Args:
        view: The index.
        rows: Of `schemas.INDEX`.
        saved: Gets the images that are inside the records, by name.
    """

    def save(pictures: Sequence[Picture]) -> list[str]:
        saved.update({picture.hashed_name: picture.data for picture in pictures})
        return [picture.hashed_name for picture in pictures]

    found: list[Rollout | None] = [None] * rows.num_rows
    problems: list[str] = []
    sizes = {shard.url: shard.size for shard in indexed_shards(view.index)}
    by_shard: dict[str, list[int]] = {}
    for number, spans in enumerate(spans_of(rows)):
        by_shard.setdefault(spans[0][0], []).append(number)
    for shard, numbers in by_shard.items():
        if not is_seekable(shard) and sizes.get(shard, 0) > _MOST_STREAMED:
            problems.append(f"{shard} is compressed, so it would have to be read from its beginning")
        elif len(problems) < _MOST_PROBLEMS:  # a store that does not answer is waited for each time
            some = rows.take(numbers)
            try:
                for number, rollout in zip(numbers, fetch_rollouts(some, view.shards, save), strict=True):
                    found[number] = rollout
            except BisieveError as error:
                problems.append(str(error))
    missing = found.count(None)
    note = f"the text of {missing} of {len(found)} rollouts: {problems[0]}" if missing else ""
    return found, [note] if missing else []


class Images:
    """Reads images and makes small ones; what fails is noted once.

    Args:
        root: URL below which the images are; None: only images inside the records are read.
        saved: Images that were inside the records, by name.
        size: Pixels that an image has at most, in width and height.
        most: Images of a rollout that are read.
    """

    def __init__(
        self,
        root: str | None,
        saved: dict[str, bytes],
        size: tuple[int, int] = SMALL,
        most: int = _MOST_IMAGES,
    ) -> None:
        self._root, self._saved, self._size, self._most = root, saved, size, most
        self._problems: list[str] = []

    @property
    def notes(self) -> list[str]:
        """Return the first problem, if there was any."""
        return self._problems[:1]

    def of(self, rollout: Rollout) -> tuple[str, ...]:
        """Return the thumbnails of the first images of ``rollout``, as data URLs."""
        names = rollout.images[: self._most]
        return tuple(url for name in names if (url := self._thumbnail(name)) is not None)

    def _thumbnail(self, name: str) -> str | None:
        if len(self._problems) >= _MOST_PROBLEMS:
            return None
        if name not in self._saved and self._root is None:
            self._note("the images: name their root with --image-root")
            return None
        try:
            data = self._saved.get(name) or image_bytes(self._root or "", name)
            return thumbnail(data, name, self._size)
        except ImageError as error:
            self._note(f"an image: {error}")
        except ModuleNotFoundError:
            self._note("the images: they need the package pillow")
        return None

    def _note(self, text: str) -> None:
        self._problems.append(text)


def thumbnail(data: bytes, name: str, size: tuple[int, int] = SMALL) -> str:
    """Return a small JPEG of an image as a data URL.

    Raises:
        ImageError: The bytes are no image that can be decoded.
    """
    image = decode_image(data, name)
    image.thumbnail(size)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
