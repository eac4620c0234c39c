"""Estimate the tokens of every rollout of a selection, to balance the work of the ranks.

    headers of images ──image_sizes──▶ sizes ──┐
                                               ├──estimate_tokens──▶ TokenEstimate
    rollouts ──size_of──▶ bytes of text ───────┘

Image tokens are exact: they follow from the image's size by the processor's own rule. Text is not tokenized:
its bytes are divided by the bytes per token of a sample. The estimate decides which rank computes a rollout,
but not which rollouts are in a global batch. The sizes of images are kept in the output folder of the run:

OUTPUT/image_sizes.parquet      name string, width int32, height int32; the image root in its metadata
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from bisieve.errors import BisieveError
from bisieve.io import storage
from bisieve.io.errors import storage_errors
from bisieve.io.images import ORIENTATION, image_url
from bisieve.io.urls import join, open_filesystem
from bisieve.records.model import Rollout

Size: TypeAlias = tuple[int, int]  # width and height [pixels] after the EXIF rotation
Counts = npt.NDArray[np.int32]

_KEPT = "image_sizes.parquet"
_READERS = 32  # headers read in parallel: object stores have high latency
_HEAD = 2**16  # bytes of the first read
_ROOT = b"image_root"
_TURNED = range(5, 9)  # values of the EXIF tag `ORIENTATION` that swap width and height
_SAMPLE = 64  # rollouts whose text is tokenized
_STEP = 2  # tokens of the marker and the separator after a step
_UNKNOWN = (448, 448)  # assumed size [pixels] of an image whose header cannot be read: one tile


@dataclass(frozen=True)
class RolloutSize:
    """The images and the text sizes of a rollout."""

    images: tuple[str, ...]  # names
    question: int  # UTF-8 bytes
    steps: int  # UTF-8 bytes
    num_steps: int


def size_of(rollout: Rollout) -> RolloutSize:
    """Return the sizes of ``rollout``."""
    texts = [step.encode() for step in rollout.steps]
    return RolloutSize(
        rollout.images, len(rollout.question.encode()), sum(map(len, texts)), len(rollout.steps)
    )


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
    """Return the sizes that an earlier start of the run kept in its folder ``output``.

    Empty if there are none, if they are of another image root, or if the file cannot be read.
    """
    url = join(output, _KEPT)
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

    Headers of these are read again at the next start. Writes nothing if ``sizes`` is empty.
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
    storage.write_bytes(join(output, _KEPT), file.getvalue())


@dataclass(frozen=True)
class TokenEstimate:
    """Estimated tokens of each row of the selection."""

    shared: Counts  # int32 [rows], of images and question, which a pack contains once per prompt
    own: Counts  # int32 [rows], all others

    @classmethod
    def equal(cls, num_rows: int) -> "TokenEstimate":
        """Return an estimate in which every rollout has one token of its own."""
        return cls(np.zeros(num_rows, np.int32), np.ones(num_rows, np.int32))

    @property
    def fingerprint(self) -> str:
        """Hash of the estimate, the same on any machine."""
        both = np.concatenate([self.shared, self.own]).astype("<i4")
        return xxhash.xxh3_64_hexdigest(both.tobytes())


def estimate_tokens(
    rollouts: Sequence[RolloutSize],
    sizes: Mapping[str, Size | None],
    image_tokens: Callable[[Size, int], int],
    bytes_per_token: float,
    max_length: int,
    packed: bool,
) -> TokenEstimate:
    """Return the estimated tokens of ``rollouts``.

    Args:
        rollouts: one per row of the selection.
        sizes: image name -> size; None or absent if unknown.
        image_tokens: (size, number of images of the rollout) -> tokens of an image.
        bytes_per_token: UTF-8 bytes per token of text.
        max_length: tokens of a rollout at most; a longer one loses steps.
        packed: whether rollouts are packed, so that a prompt's images and question occur once; without
            packing ``shared`` is 0 and ``own`` has all tokens.
    """
    counted = cache(image_tokens)
    shared = np.zeros(len(rollouts), np.int32)
    own = np.zeros(len(rollouts), np.int32)
    for row, rollout in enumerate(rollouts):
        images = sum(counted(sizes.get(name) or _UNKNOWN, len(rollout.images)) for name in rollout.images)
        shared[row] = min(max_length, images + round(rollout.question / bytes_per_token))
        steps = round(rollout.steps / bytes_per_token) + _STEP * rollout.num_steps
        own[row] = min(max_length - int(shared[row]), steps)
    return TokenEstimate(shared, own) if packed else TokenEstimate(np.zeros_like(shared), shared + own)


def image_counter(
    processor: Any, image_options: Callable[[int], dict[str, Any]], tiles: int
) -> Callable[[Size, int], int]:
    """Return a function: (size of an image, number of images of its rollout) -> tokens of the image.

    An image that the processor refuses counts as one tile (448 × 448 pixels).

    Args:
        processor: of the backbone.
        image_options: tiles of one image -> options of the processor's call.
        tiles: of a rollout, which its images share.
    """

    def tokens(size: Size, images: int) -> int:
        options = counting_options(image_options(max(1, tiles // images)))
        width, height = size
        try:
            counts = processor._get_num_multimodal_tokens(image_sizes=[(height, width)], **options)
        except ValueError:  # too narrow for the processor; training reports the image
            return tokens(_UNKNOWN, images)
        return int(counts.num_image_tokens[0])

    return tokens


def counting_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a processor's call options in the form that its ``_get_num_multimodal_tokens`` needs.

    That method knows ``size`` only under its old names, ``min_pixels`` and ``max_pixels``.
    """
    named = dict(options)
    if size := named.pop("size", None):
        named |= {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    return named


def sample_rows(num_rows: int) -> list[int]:
    """Return up to 64 evenly spaced rows, whose text is tokenized as the sample."""
    return sorted({row * num_rows // _SAMPLE for row in range(_SAMPLE)}) if num_rows else []


def measured_bytes_per_token(tokenizer: Any, texts: Sequence[str]) -> float:
    """Return the UTF-8 bytes per token of ``texts``; 4 if there is no text."""
    tokens = (
        sum(len(ids) for ids in tokenizer(list(texts), add_special_tokens=False).input_ids) if texts else 0
    )
    return sum(len(text.encode()) for text in texts) / tokens if tokens else 4.0
