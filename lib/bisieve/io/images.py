"""Images by name below an image root: their URLs, a check that they exist, and decoding to RGB.

`image_url` maps an untrusted name from a record to a URL below the root, `image_bytes` reads it and
`decode_image` decodes it; `load_image` does all three.  `is_base64` recognises images inside records.
"""

import base64
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np

from bisieve._text import one_line
from bisieve.errors import ImageError, StorageError
from bisieve.io import storage
from bisieve.io.errors import storage_errors
from bisieve.io.urls import canonical, is_local, join, open_filesystem, real_path

if TYPE_CHECKING:
    from PIL.Image import Image

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")  # the start of an absolute path on Windows
MOST_PIXELS = 2**26  # 200 MB as RGB
_ON_WHITE = "bisieve_on_white"  # key in ``Image.info`` of an image that was transparent
_STRAIGHT = {"RGBa": "RGBA", "La": "LA"}  # modes with premultiplied alpha -> the same without
ORIENTATION = 0x0112  # EXIF
_TURNS = {  # EXIF orientation -> Pillow's name of the operation that turns the image upright
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
    7: "TRANSVERSE", 8: "ROTATE_90",
}  # fmt: skip
_LOOKUPS = 32  # names looked up at the same time: a store answers slowly, but many requests in parallel
_STAT_AT_MOST = 256  # above this many names one listing of the root is cheaper than a request for each

WAY_OUT = (
    "bisieve export --format records --images FOLDER writes such images out: score and train on what it wrote"
)

_HEADS = {
    b"\x89PNG\r\n\x1a\n": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"II*\0": ".tif",
    b"MM\0*": ".tif", b"\0\0\0\x0cjP  ": ".jp2",
}  # fmt: skip
_BOXES = {b"WEBP": ".webp", b"ftypavif": ".avif", b"ftypheic": ".heic"}  # found after a length field
_LONGEST_HEAD = 16  # bytes
DATA_URL = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)

_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+=*\s*")

_SHORTEST_BASE64 = 32  # characters: the smallest image has more, a file name that looks like one has fewer


def image_url(root: str, name: str) -> str:
    """Return the URL of image ``name`` below ``root``.

    Names come from the corpus and are not trusted.  Symbolic links below a local root belong to its owner
    and are followed.

    Args:
        root: The image root, any URL.
        name: A relative path, with slashes or backslashes, or an absolute path or URL below ``root``.

    Raises:
        ImageError: The image would be outside ``root``, or ``name`` is itself an image in base64.
    """
    if is_base64(name):
        raise ImageError("images by name", f"an image in base64, {name[:40]}…", WAY_OUT)
    # Stores decode percent signs and backslashes, so the path must be safe after that, too.
    parts = PurePosixPath(unquote(name).replace("\\", "/")).parts
    relative = None
    chained = "::" in name and not is_local(root)  # fsspec would chain file systems at "::"
    if parts and ".." not in parts and not chained and "\0" not in name:
        relative = _relative(root, name)
    if not relative:
        raise ImageError(
            f"an image path that stays below the image root {root}",
            repr(name),
            "correct the image field of the record, or score with --image-prefix OLD=NEW",
        )
    return join(root, relative)


def _relative(root: str, name: str) -> str | None:
    """Return ``name`` relative to ``root``, or None if it is absolute and not below ``root``."""
    if name.startswith("/") or "://" in name:
        return _below_root(root, name)
    if _DRIVE.match(name):
        return None
    relative = name.replace("\\", "/")
    return None if unquote(relative).startswith("/") else relative


def _below_root(root: str, name: str) -> str | None:
    """Return an absolute path or URL relative to ``root``, with links resolved if needed; None if outside."""
    if name.partition("://")[1] and name.partition("://")[0] != canonical(root).partition("://")[0]:
        return None
    if not is_local(root) and "://" not in name:
        return None
    for spelled in (canonical, real_path):
        top, place = join(spelled(root), ""), spelled(name)
        if place.startswith(top):
            return place.removeprefix(top)
    return None


def missing_images(root: str, names: Iterable[str]) -> set[str]:
    """Return those of ``names`` that have no file below ``root``.

    Raises:
        ImageError: A name leads outside ``root`` (see `image_url`).
    """
    wanted = {name: image_url(root, name) for name in set(names)}
    if len(wanted) > _STAT_AT_MOST:
        present = storage.file_names(root)
        return {name for name, url in wanted.items() if _below(root, url) not in present}
    with ThreadPoolExecutor(_LOOKUPS) as pool:
        found = pool.map(_is_file, wanted.values())
        return {name for name, there in zip(wanted, found, strict=True) if not there}


def _below(root: str, url: str) -> str:
    return str(PurePosixPath(url.removeprefix(join(root, ""))))


def _is_file(url: str) -> bool:
    fs, path = open_filesystem(url)
    with storage_errors(url):
        try:
            return bool(fs.info(path)["type"] == "file")
        except FileNotFoundError:
            return False


def refuse_missing(root: str, missing: Collection[str], hint: str) -> None:
    """Raise `ImageError` if any images are ``missing``, with their number and one example.

    ``hint`` says what the user of the command can do.
    """
    if missing:
        found = f"{len(missing):,} missing, such as {min(missing)}"
        raise ImageError(f"all images below {root}", found, hint)


def decode_image(data: bytes, name: str) -> "Image":
    """Decode an image to RGB, turned upright by its EXIF orientation; of an animation the first frame.

    Transparent pixels become white, and `was_transparent` is true of the result.

    Raises:
        ImageError: The bytes are not an image, or it has more than `MOST_PIXELS`: a file of a few kilobytes
            can decode to gigabytes of pixels.  The text contains ``name``.
    """
    from PIL import Image

    with _image_errors(name), Image.open(io.BytesIO(data)) as image:
        return _as_decoded(image, name)


def as_decoded(image: "Image", name: str) -> "Image":
    """Return an image of Pillow as `decode_image` would return it from its file.

    Raises:
        ImageError: It cannot be loaded or converted to RGB, or has more than `MOST_PIXELS`.  The text
            contains ``name``.
    """
    with _image_errors(name):
        return _as_decoded(image, name)


def _as_decoded(image: "Image", name: str) -> "Image":
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(name, f"{image.width} × {image.height} pixels")
    _scale_colour_key(image)
    found = _opaque(_upright(image))
    # An orientation that stayed would turn the image again, where it is given as one in memory.
    found.info = {key: value for key, value in found.info.items() if key == _ON_WHITE}
    return found


@contextmanager
def _image_errors(name: str) -> Iterator[None]:
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:  # above Pillow's own limit, where it does not open it
        raise _too_large(name, str(error).partition(" exceeds")[0]) from error
    except Exception as error:  # the exceptions of Pillow's formats have no common base
        unknown = isinstance(error, UnidentifiedImageError)  # its text contains the buffer's address
        found = "no image of a known format" if unknown else one_line(error)
        raise ImageError(
            f"an image that can be decoded in {name}",
            found or type(error).__name__,
            "write an image under that name, then run the same command again",
        ) from error


def _too_large(name: str, found: str) -> ImageError:
    expected = f"an image of at most {MOST_PIXELS:,} pixels in {name}"
    return ImageError(expected, found, "make it smaller, then run the same command again")


def _scale_colour_key(image: "Image") -> None:
    """Scale the transparent grey value of a PNG with 2 or 4 bits per pixel, as Pillow scales the pixels.

    Pillow itself scales only the pixels, so no pixel would match.
    """
    tile = getattr(image, "tile", None)  # None: the image was made in memory
    raw = tile[0][3] if tile else None
    levels = {"L;2": 3, "L;4": 15}.get(raw) if isinstance(raw, str) else None
    if levels and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] *= 255 // levels


def _upright(image: "Image") -> "Image":
    """Return ``image`` turned upright by its EXIF orientation.

    Pillow's ``exif_transpose`` also rewrites the EXIF, and fails if another tag has a wrong type.
    """
    from PIL.Image import Transpose

    image.load()  # the EXIF of a PNG may come after its pixels
    turn = _TURNS.get(image.getexif().get(ORIENTATION, 1))
    return image.transpose(Transpose[turn]) if turn else image


def was_transparent(image: "Image") -> bool:
    """Return whether ``image``, a result of `decode_image`, had pixels that were not fully opaque."""
    return bool(image.info.get(_ON_WHITE))


def _opaque(image: "Image") -> "Image":
    """Return ``image`` in RGB; a transparent one is pasted on white and marked for `was_transparent`."""
    from PIL import Image

    alpha = _alpha(image)
    if alpha is None or alpha.getextrema() == (255, 255):
        return _eight_bit(image).convert("RGB")
    # Premultiplied colours must be divided by their alpha before the conversion to RGB drops it.
    straight = image.convert(_STRAIGHT[image.mode]) if image.mode in _STRAIGHT else image
    on_white = Image.new("RGB", image.size, "white")
    on_white.paste(_eight_bit(straight).convert("RGB"), mask=alpha)
    on_white.info[_ON_WHITE] = True
    return on_white


def _alpha(image: "Image") -> "Image | None":
    """Return the opacity of each pixel (mode L, 255 = opaque), or None if the image has no transparency."""
    from PIL import Image

    if not image.has_transparency_data:
        return None
    if image.mode.startswith("I"):  # 16 bits per pixel, with one transparent grey value
        opaque = np.asarray(image) != image.info["transparency"]
        return Image.fromarray(np.where(opaque, 255, 0).astype(np.uint8))
    straight = image.convert(_STRAIGHT[image.mode]) if image.mode in _STRAIGHT else image
    return straight.convert("RGBA").getchannel("A")


def _eight_bit(image: "Image") -> "Image":
    """Return an image of 16 bits per pixel with the upper 8 bits; others unchanged.

    Pillow's ``convert`` alone makes every value above 255 white.
    """
    if not image.mode.startswith("I;16"):
        return image
    return image.convert("I").point(lambda value: value / 256).convert("L")


def load_image(root: str, name: str) -> "Image":
    """Return image ``name`` below ``root`` in RGB.

    Raises:
        ImageError: The image is outside ``root``, is missing, or cannot be read or decoded.
    """
    return decode_image(image_bytes(root, name), name)


def image_bytes(root: str, name: str, read: Callable[[str], bytes] = storage.read_bytes) -> bytes:
    """Return the encoded bytes of image ``name`` below ``root``.

    Args:
        root: The image root, any URL.
        name: As in `image_url`.
        read: Reads the bytes of a URL, such as through a cache.

    Raises:
        ImageError: The image is outside ``root`` or cannot be read.
    """
    try:
        return read(image_url(root, name))
    except StorageError as error:
        raise ImageError(
            f"image {name} below {root}", error.args[1], "correct --image-root or the image"
        ) from error


def is_base64(name: str) -> bool:
    """Return whether the text in an image field is the image itself, as a data URL or in base64.

    Base64 without ``data:`` is recognised by its first bytes, which are those of a known image format.
    """
    if name[:5].lower() == "data:":
        return DATA_URL.match(name) is not None
    if len(name) < _SHORTEST_BASE64:
        return False
    try:
        head = base64.b64decode("".join(name[:40].split())[:24])
    except ValueError:
        return False
    return image_suffix(head) is not None and _BASE64.fullmatch(name) is not None


def image_suffix(data: bytes) -> str | None:
    """Return the file suffix of the image format that ``data`` begins with, or None if it is unknown."""
    if data.startswith(b"BM") and data[6:10] == bytes(4):
        return ".bmp"
    for head, suffix in _HEADS.items():
        if data.startswith(head):
            return suffix
    return next((suffix for box, suffix in _BOXES.items() if box in data[4:_LONGEST_HEAD]), None)
