"""Images inside the records: which forms are recognised, and the name that each image gets.

struct<bytes, path>, a list of them   as Hugging Face datasets write images (Parquet, or JSON in base64)
binary                                Parquet, if the bytes begin like an image
text in base64                        ``data:image/png;base64,…``, or the base64 of an image alone

`picture_of` decodes one image and `in_text` turns it into text for a typed struct.  `in_names` gives the
names of a Parquet column, and `located` the names that are written or looked up in place of the images.
"""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds
import xxhash

from bisieve.errors import ImageError
from bisieve.io.images import DATA_URL, image_suffix, is_base64
from bisieve.records.options import ReadOptions

_PATH = re.compile(r"data:;path=([^;,]+);base64,")  # as `in_text` writes it

_URL_SAFE = str.maketrans("-_", "+/")

# Absolute, a URL, leading to a parent folder, of Windows, or with characters that a store may decode.
_UNSAFE_PATH = re.compile(r"^[\s/]|(^|/)\.\.(/|$)|[:\\%?#*\x00-\x1f]|(^|/)\.?$")


@dataclass(frozen=True)
class Picture:
    """Image in a record: its encoded bytes, and the path beside them in the record, if any."""

    data: bytes
    path: str | None = None

    @property
    def name(self) -> str:
        """Return the path if it is a safe relative one, else `hashed_name`."""
        return self.path if is_safe(self.path) else self.hashed_name  # type: ignore[return-value]

    @property
    def hashed_name(self) -> str:
        """Return the hash of the bytes as a file name, with the suffix of the image format."""
        return xxhash.xxh3_128_hexdigest(self.data) + (image_suffix(self.data) or ".img")


Save = Callable[[Sequence[Picture]], list[str]]  # writes images to files and returns their names
Locate = Callable[[Any, str], Any]  # `located`, called with an image and the place of its record


def is_safe(path: str | None) -> bool:
    """Return whether ``path`` is a relative path that stays below whatever folder it is joined to."""
    return path is not None and not _UNSAFE_PATH.search(path)


def located(image: Any, where: str, reading: ReadOptions, save: Save | None) -> Any:
    """Return the name, or the names, that replace the ``image`` of a record.

    Args:
        image: A name, a `Picture`, base64, a dict with ``bytes`` and ``path``, or a list of these.
        where: The place of the record (shard@offset), for messages.
        reading: Maps the names in the records to paths below the image root (`ReadOptions.image_path`).
        save: Writes embedded images to files.  Without it text in base64 is returned unchanged, and any
            other embedded image is replaced by its name.

    Returns:
        A name below the image root; a list of names if ``image`` is a list.

    Raises:
        ImageError: Text in base64 is invalid (only with ``save``).
    """
    found = image if isinstance(image, list) else [image]
    if save is None:
        names = [_located(value if isinstance(value, str) else _name(value), reading) for value in found]
    else:
        try:
            pictures = [picture_of(value) for value in found]
        except binascii.Error as error:
            raise ImageError(
                f"an image in base64 in the record at {where}", str(error), "correct the image of the record"
            ) from error
        saved = iter(save([picture for picture in pictures if picture is not None]))
        names = [
            _located(_path(value), reading) if picture is None else next(saved)
            for value, picture in zip(found, pictures, strict=True)
        ]
    return names if isinstance(image, list) else names[0]


def _located(name: str | None, reading: ReadOptions) -> str | None:
    return name if name is None or is_base64(name) else reading.image_path(name)


def is_embedded(image: Any) -> bool:
    """Return whether the image field of a JSON record has an image itself, not only names."""
    if isinstance(image, list):
        return any(map(is_embedded, image))
    return isinstance(image, dict) or (isinstance(image, str) and is_base64(image))


def picture_of(value: Any) -> Picture | None:
    """Return the image that ``value`` is or contains; None if it is only a name, or no image at all.

    Raises:
        binascii.Error: Text in base64 is invalid.
    """
    if isinstance(value, Picture):
        return value
    if isinstance(value, str) and is_base64(value):
        named = _PATH.match(value)
        return Picture(_from_base64(value), unquote(named[1]) if named else None)
    if isinstance(value, bytes) and image_suffix(value):
        return Picture(value)
    if isinstance(value, dict) and (data := value.get("bytes")):
        path = value.get("path")
        data = _from_base64(data) if isinstance(data, str) else data
        return Picture(data, path if isinstance(path, str) else None) if isinstance(data, bytes) else None
    return None


def in_text(image: Any) -> Any:
    """Return the image field of a JSON record with each dict of ``bytes`` and ``path`` replaced by text.

    The text is base64, with the path in a data URL if that is safe; or the path alone if there are no bytes.
    """
    if isinstance(image, list):
        return [in_text(value) for value in image]
    if not _is_picture(image):
        return image
    data = image.get("bytes")
    if not (isinstance(data, str) and data):
        return image.get("path")
    path = image.get("path")
    named = f";path={quote(path)}" if isinstance(path, str) and is_safe(path) else ""
    return data if is_base64(data) and not named else f"data:{named};base64,{data.rpartition(',')[2]}"


def _is_picture(value: Any) -> bool:
    return isinstance(value, dict) and not {"bytes", "path"}.isdisjoint(value)


def _path(value: Any) -> Any:
    return value.get("path") if isinstance(value, dict) else value


def _from_base64(text: str) -> bytes:
    """Decode base64 or a data URL; the URL-safe alphabet, whitespace and missing padding are accepted."""
    begins = DATA_URL.match(text)
    digits = "".join(unquote(text[begins.end() :] if begins else text).split()).translate(_URL_SAFE)
    return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)


def holds_images(kind: pa.DataType) -> bool:
    """Return whether a Parquet column of type ``kind`` can contain images, not only their names."""
    inner = kind.value_type if _is_list(kind) else kind
    fields = {"bytes", "path"}
    return _is_binary(inner) or (kinds.is_struct(inner) and bool(fields & {field.name for field in inner}))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_binary_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind))


def in_names(images: pa.Array) -> pa.Array:
    """Return the names of the images in a Parquet column; null for a row without a path and an image.

    If every path is safe, ``images`` needs no field ``bytes``, so that the images are not read.
    """
    if kinds.is_struct(images.type) and images.type.get_field_index("bytes") < 0:
        paths = pc.struct_field(images, "path")
        if kinds.is_string(paths.type):
            return paths
    found = [
        [_name(value) for value in image] if isinstance(image, list) else _name(image)
        for image in images.to_pylist()
    ]
    return pa.array(found, pa.list_(pa.string()) if _is_list(images.type) else pa.string())


def all_safe(names: pa.Array) -> bool:
    """Return whether every image has a safe name: then no image's bytes are needed to name it."""
    flat = names.flatten() if _is_list(names.type) else names
    return not names.null_count and not flat.null_count and all(map(is_safe, flat.to_pylist()))


def _name(value: Any) -> str | None:
    """Return the name of an embedded image, or the name that ``value`` is or contains."""
    picture = picture_of(value)
    name = picture.name if picture else _path(value)
    return name if isinstance(name, str) else None
