"""Files that should be images and are not, as corpora have them."""

import io
import struct
import zlib
from typing import Any

from PIL import Image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return ``image`` as a file of that kind."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, colours: int) -> bytes:
    """Return a PNG that says so of itself, with no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


_NOISE = Image.effect_noise((64, 64), 50)

# What the file holds, and what is said of it.
BROKEN = {
    "truncated JPEG": (encoded(_NOISE, "jpeg")[:1200], "truncated"),
    "truncated PNG": (encoded(_NOISE, "png")[:200], "truncated"),
    "empty file": (b"", "no image of a known format"),
    "HTML under .png": (b"<html><body>404 Not Found</body></html>", "no image of a known format"),
    "bomb": (encoded(Image.new("1", (2**16, 1200)), "png"), "65536 × 1200 pixels"),
    "bomb that Pillow refuses": (encoded(Image.new("1", (2**16, 4000)), "png"), r"\(262144000 pixels\)"),
    "no pixels": (png(0, 4, 2), "no image of a known format"),
    "mode that is none": (png(4, 4, 5), "no image of a known format"),
}
