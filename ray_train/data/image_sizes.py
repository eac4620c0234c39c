"""Read the sizes of images from their headers, and keep them beside the run.

OUTPUT/image_sizes.parquet      name, width, height; the image root in its metadata
"""

import io
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from bisieve.errors import BisieveError
from bisieve.io import storage
from bisieve.io.errors import storage_errors
from bisieve.io.images import ORIENTATION, image_url

Size: TypeAlias = tuple[int, int]  # width and height in pixels, upright

KEPT = "image_sizes.parquet"
_READERS = 32  # headers read at the same time: a store answers slowly, but many at once
_HEAD = 2**16  # bytes read at first
_ROOT = b"image_root"
_TURNED = range(5, 9)  # values of `ORIENTATION` that change width for height


def image_sizes(
    root: str, names: Iterable[str], known: Mapping[str, Size | None] | None = None
) -> dict[str, Size | None]:
    """Return the size of each image of ``names`` below ``root``; None where its header cannot be read.

    Only images that are not in ``known`` are read, mostly their first 64 KiB.
    """
    known = known or {}
    wanted = sorted(set(names))
    new = [name for name in wanted if name not in known]
    with ThreadPoolExecutor(_READERS) as pool:
        found = dict(zip(new, pool.map(lambda name: _size(root, name), new), strict=True))
    return {name: found[name] if name in found else known[name] for name in wanted}


def _size(root: str, name: str) -> Size | None:
    try:
        url = image_url(root, name)
        return size_in(_head(url)) or size_in(storage.read_bytes(url))
    except BisieveError:  # missing or unreadable: training says so, where it is needed
        return None


def _head(url: str) -> bytes:
    fs, path = storage.open_filesystem(url)
    with storage_errors(url):
        return bytes(fs.cat_file(path, start=0, end=_HEAD))


def size_in(data: bytes) -> Size | None:
    """Return the size of the image that begins with ``data``; None where these bytes do not tell."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))  # ``getexif`` would decode a PNG, cut off as it is here
            turned = exif.get(ORIENTATION) in _TURNED
            return (image.height, image.width) if turned else (image.width, image.height)
    except Exception:  # Pillow's many formats raise what they like
        return None


def kept_sizes(output: str, root: str) -> dict[str, Size | None]:
    """Return the sizes that an earlier start of the run kept; none where it read another image root."""
    url = storage.join(output, KEPT)
    try:
        if not storage.exists(url):
            return {}
        table = pq.read_table(pa.BufferReader(storage.read_bytes(url)))
        if (table.schema.metadata or {}).get(_ROOT) != root.encode():
            return {}
        rows = zip(*(table[name].to_pylist() for name in ("name", "width", "height")), strict=True)
        return {name: (width, height) for name, width, height in rows}
    except (BisieveError, pa.ArrowException, KeyError):  # a cache: what it does not tell is read again
        return {}


def keep_sizes(output: str, root: str, sizes: Mapping[str, Size | None]) -> None:
    """Write ``sizes`` beside the run; unknown ones are left out, to be read again. Nothing without any."""
    if not sizes:
        return
    known = {name: size for name, size in sizes.items() if size is not None}
    table = pa.table(
        {
            "name": pa.array(known, pa.string()),
            "width": pa.array([width for width, _ in known.values()], pa.int32()),
            "height": pa.array([height for _, height in known.values()], pa.int32()),
        }
    ).replace_schema_metadata({_ROOT: root.encode()})
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    storage.write_bytes(storage.join(output, KEPT), file.getvalue())
