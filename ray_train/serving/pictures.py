"""Images inside requests: from a data URL or base64 to encoded bytes, with a look at their headers.

The server opens no URL and no file that a request names: it would be a way into the network and the disk of
the machine. Only the formats below are opened: others have decoders that start programs (EPS) or are rare.
"""

import base64
import binascii
import io
import re
from collections.abc import Sequence

from bisieve._text import one_line
from ray_train.serving.question import TOO_LARGE, RefusedError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{1,20}):")
_DATA = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_HINT = "send the image itself, as a data: URL or in base64"


def image_bytes(given: str) -> bytes:
    """Return the encoded image in a data URL or a text in base64.

    Raises:
        RefusedError: It is another URL, a path, or not base64.
    """
    start = _DATA.match(given[:300])
    scheme = _SCHEME.match(given)
    if start is None and scheme is not None:
        is_data = scheme[1].lower() == "data"
        found = "a data: URL without ;base64" if is_data else f"a URL with {scheme[1].lower()}:"
        raise RefusedError("an image inside the request, since the server opens no URL", found, _HINT)
    text = given[start.end() :] if start else given
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError("an image in base64", f"{text[:40]!r}", _HINT) from error
    if not data:
        raise RefusedError("an image", "an empty text", _HINT)
    return data


def check_pixels(images: Sequence[bytes], most: int) -> None:
    """Check the headers of images, without decoding their pixels.

    Raises:
        RefusedError: One is in none of `FORMATS` or damaged, or they have more than ``most`` pixels.
    """
    from PIL import Image, UnidentifiedImageError

    total = 0
    for number, data in enumerate(images, start=1):
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                total += image.width * image.height
        except Image.DecompressionBombError as error:  # above Pillow's own limit
            raise _too_many(most, f"more in image {number} alone") from error
        except UnidentifiedImageError as error:
            known = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
            raise RefusedError(
                f"image {number} in {known}", "no image of these formats", "convert it"
            ) from error
        except Exception as error:  # the exceptions of Pillow's formats have no common base
            found = one_line(error)
            raise RefusedError(f"image {number} that can be opened", found, "send it whole") from error
        if total > most:
            raise _too_many(most, f"{total:,} in the first {number}")


def _too_many(most: int, found: str) -> RefusedError:
    return RefusedError(
        f"at most {most:,} pixels in all images of a request", found, "make them smaller", TOO_LARGE
    )
