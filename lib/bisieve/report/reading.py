"""Read the text and images of rows of an index, as far as they can be read: what fails is a note.

rows ──`read_texts`──▶ rollouts with their text ──`Images.of`──▶ small images as data URLs
"""

import base64
import errno
import io
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import pyarrow as pa

from bisieve._text import pluralize
from bisieve.errors import BisieveError, ImageError
from bisieve.index.reader import indexed_shards
from bisieve.io.images import decode_image, image_bytes
from bisieve.io.read import read_ranges
from bisieve.io.retry import is_transient
from bisieve.io.urls import codec_of, is_parquet, is_seekable
from bisieve.records.embedded_images import Picture
from bisieve.records.model import Rollout
from bisieve.report.rows import View
from bisieve.shards.fetch import fetch_rollouts, spans_of

SMALL, FULL = (360, 240), (1600, 1600)  # pixels at most, width and height
_QUALITY = 72  # of JPEG
_MOST_IMAGES = 2  # of a rollout
_OF_A_RECORD = 600  # bytes of a rejected record
_MOST_PROBLEMS = 5  # after which no more are read
_MOST_STREAMED = 2**28  # bytes of a shard that is read from its beginning


class Unanswered:
    """The stores that did not answer: each was tried for up to a minute, so none is asked again."""

    def __init__(self) -> None:
        self._stores: set[tuple[str, str]] = set()

    def __contains__(self, url: str) -> bool:
        """Return whether the store of ``url`` did not answer."""
        return _store(url) in self._stores

    def add(self, url: str, error: BisieveError) -> None:
        """Remember the store of ``url`` if the ``error`` of reading from it is that it did not answer.

        A record that is shorter than it was is an input/output error, which other records need not have.
        """
        cause: BaseException | None = error
        while isinstance(cause, BisieveError):
            cause = cause.__cause__
        is_short = isinstance(cause, OSError) and cause.errno == errno.EIO
        if isinstance(cause, Exception) and is_transient(cause) and not is_short:
            self._stores.add(_store(url))


def _store(url: str) -> tuple[str, str]:
    return urlsplit(url)[:2]


def read_texts(
    view: View,
    rows: pa.Table,
    saved: dict[str, bytes] | None = None,
    unanswered: Unanswered | None = None,
) -> tuple[list[Rollout | None], str]:
    """Return the rollouts of ``rows``, None where a record cannot be read, and what is wrong with the first.

    Args:
        view: The index.
        rows: Of `schemas.INDEX`.
        saved: Gets the images that are inside the records, by name; None: these are not kept.
        unanswered: Stores that are not read from; gets those that do not answer.
    """
    silent = unanswered or Unanswered()

    def save(pictures: Sequence[Picture]) -> list[str]:
        if saved is not None:
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
        elif len(problems) < _MOST_PROBLEMS and shard not in silent:
            some = rows.take(numbers)
            try:
                for number, rollout in zip(numbers, fetch_rollouts(some, view.shards, save), strict=True):
                    found[number] = rollout
            except BisieveError as error:
                problems.append(str(error))
                silent.add(shard, error)
    return found, next(iter(problems), "")


def notes_on(found: Sequence[Rollout | None], problem: str) -> list[str]:
    """Return a note on the texts that `read_texts` could not read; nothing if it could read all."""
    missing = found.count(None)
    return [f"the text of {missing} of {pluralize(len(found), 'rollout')}: {problem}"] if missing else []


class Beginnings:
    """Reads the beginnings of rejected records.

    Args:
        unanswered: As of `read_texts`.
    """

    def __init__(self, unanswered: Unanswered | None = None) -> None:
        self._unread, self._silent = 0, unanswered or Unanswered()

    def of(self, shard: str, offset: int, length: int) -> str | None:
        """Return the beginning of a record; None if its shard is not plain text, or cannot be read."""
        if is_parquet(shard) or codec_of(shard) is not None:
            return None
        if self._unread >= _MOST_PROBLEMS or shard in self._silent:
            return None
        try:
            (data,) = read_ranges(shard, [offset], [offset + min(length, _OF_A_RECORD)])
        except BisieveError as error:
            self._unread += 1
            self._silent.add(shard, error)
            return None
        return data.decode(errors="replace").strip()


class Images:
    """Reads images and makes small ones; how many could not be shown is noted.

    Args:
        root: URL below which the images are; None: only images inside the records are read.
        saved: Images that were inside the records, by name.
        size: Pixels that an image has at most, in width and height.
        most: Images of a rollout that are read.
        unanswered: As of `read_texts`.
    """

    def __init__(
        self,
        root: str | None,
        saved: Mapping[str, bytes],
        size: tuple[int, int] = SMALL,
        most: int = _MOST_IMAGES,
        unanswered: Unanswered | None = None,
    ) -> None:
        self._root, self._saved, self._size, self._most = root, saved, size, most
        self._silent = unanswered or Unanswered()
        self._asked = self._missing = self._unread = 0
        self._problem = ""  # of the first image that is missing
        self._unasked = ""  # why images were not looked for

    @property
    def notes(self) -> list[str]:
        """Return why images are not shown, and how many they are; nothing if all are."""
        missing = f"{self._missing} of {pluralize(self._asked, 'image')}: {self._problem}"
        return [self._unasked] * bool(self._unasked) + [missing] * bool(self._missing)

    def of(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the thumbnails of the first images of a rollout, as data URLs."""
        return tuple(url for name in names[: self._most] if (url := self._thumbnail(name)) is not None)

    def _thumbnail(self, name: str) -> str | None:
        self._asked += 1
        is_inside = name in self._saved
        if self._root is None and not is_inside:
            self._unasked = "the images: name their root with --image-root"
            return None
        try:
            if is_inside or (self._unread < _MOST_PROBLEMS and (self._root or "") not in self._silent):
                return thumbnail(self._bytes(name), name, self._size)
        except ImageError as error:
            self._silent.add(self._root or "", error)
            inside = f"expected an image in each record; found {error.args[1]} in one"  # no file has its name
            self._problem = self._problem or (inside if is_inside else str(error))
        except ModuleNotFoundError:
            self._unasked = "the images: they need the package pillow"
            return None
        self._missing += 1
        return None

    def _bytes(self, name: str) -> bytes:
        if name in self._saved:
            return self._saved[name]
        self._unread += 1
        data = image_bytes(self._root or "", name)
        self._unread -= 1
        return data


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
