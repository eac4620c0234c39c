"""Images in requests: only inside them, only in known formats, and no larger than allowed."""

import base64
import struct
import zlib

import pytest
from PIL import Image
from support.served_model import as_png, data_url

from ray_train.serving.pictures import check_pixels, image_bytes
from ray_train.serving.question import RefusedError

PICTURE = as_png(Image.new("RGB", (30, 20), "red"))


def bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header says that it is ``side`` pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_an_image_is_a_data_url_or_base64_with_or_without_line_breaks() -> None:
    plain = base64.b64encode(PICTURE).decode()
    broken = base64.encodebytes(PICTURE).decode()
    assert all(image_bytes(given) == PICTURE for given in (plain, broken, data_url(PICTURE)))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("http://169.254.169.254/latest", "a URL with http:"),
        ("HTTPS://host/a.png", "a URL with https:"),
        ("file:///etc/passwd", "a URL with file:"),
        ("s3://bucket/a.png", "a URL with s3:"),
        ("data:image/png,abc", "a data: URL without ;base64"),
        ("charts/0001.png", "'charts/0001.png'"),
        ("/etc/passwd", "'/etc/passwd'"),
        ("data:image/png;base64,", "an empty text"),
        ("", "an empty text"),
        ("a" * 41, "a" * 40),
    ],
)
def test_what_is_not_inside_the_request_is_refused(given: str, found: str) -> None:
    with pytest.raises(RefusedError, match="the image itself") as refused:
        image_bytes(given)
    assert found in str(refused.value)
    assert refused.value.status == 422


@pytest.mark.parametrize(
    ("images", "status", "text"),
    [
        ([PICTURE, b"%!PS-Adobe-3.0 EPSF-3.0\n"], 422, "image 2 in PNG, JPEG, WEBP, GIF, BMP or TIFF"),
        ([b"GIF89a"], 422, "image 1"),
        ([PICTURE, PICTURE], 413, "at most 1,000 pixels in all images of a request; found 1,200"),
        ([bomb(9_000)], 413, "81,000,000"),
        ([bomb(60_000)], 413, "at most 1,000 pixels in all images of a request; found more in image 1"),
    ],
)
def test_headers_are_looked_at_and_no_pixel_is_decoded(images: list[bytes], status: int, text: str) -> None:
    check_pixels([PICTURE], 600)
    with pytest.raises(RefusedError) as refused:
        check_pixels(images, 1000)
    assert text in str(refused.value)
    assert refused.value.status == status
