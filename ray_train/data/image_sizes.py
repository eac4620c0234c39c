"""Read the sizes of images from their headers, and save them in the output folder of the run.

OUTPUT/image_sizes.parquet      name string, width int32, height int32; the image root in its metadata
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
from bisieve.io.urls import join, open_filesystem

Size: TypeAlias = tuple[int, int]  # width and height [pixels] after the EXIF rotation

KEPT = "image_sizes.parquet"
_READERS = 32  # headers read in parallel: object stores have high latency
_HEAD = 2**16  # bytes of the first read
_ROOT = b"image_root"
_TURNED = range(5, 9)  # values of the EXIF tag `ORIENTATION` that swap width and height


def image_sizes(
    root: str, names: Iterable[str], known: Mapping[str, Size | None] | None = None
) -> dict[str, Size | None]:
    """Return the size of each image of ``names`` below ``root``; None if its header cannot be read.

    Reads only images that are not in ``known``: their first 64 KiB, or the whole file if that is not enough.
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
    except BisieveError:  # missing or unreadable: training reports it when it needs the image
        return None


def _head(url: str) -> bytes:
    fs, path = open_filesystem(url)
    with storage_errors(url):
        return bytes(fs.cat_file(path, start=0, end=_HEAD))


def size_in(data: bytes) -> Size | None:
    """Return the size of the image that begins with ``data``; None if these bytes are not enough."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))  # ``getexif`` would decode a PNG, which is truncated here
            turned = exif.get(ORIENTATION) in _TURNED
            return (image.height, image.width) if turned else (image.width, image.height)
    except Exception:  # Pillow's formats raise any type
        return None


def kept_sizes(output: str, root: str) -> dict[str, Size | None]:
    """Return the sizes that an earlier start of the run saved in its folder ``output``.

    Empty if there are none, if they are of another image root, or if the file cannot be read.
    """
    url = join(output, KEPT)
    try:
        if not storage.exists(url):
            return {}
        table = pq.read_table(pa.BufferReader(storage.read_bytes(url)), pre_buffer=False, use_threads=False)
        if (table.schema.metadata or {}).get(_ROOT) != root.encode():
            return {}
        rows = zip(*(table[name].to_pylist() for name in ("name", "width", "height")), strict=True)
        return {name: (width, height) for name, width, height in rows}
    except (BisieveError, pa.ArrowException, KeyError):  # only a cache: missing sizes are read again
        return {}


def keep_sizes(output: str, root: str, sizes: Mapping[str, Size | None]) -> None:
    """Write ``sizes`` into the run's folder ``output``, without images of unknown size.

    Those are read again at the next start. Writes nothing if ``sizes`` is empty.
    """
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
    storage.write_bytes(join(output, KEPT), file.getvalue())
