"""The lines of a byte range: each line belongs to the range that holds its first byte.

In a compressed shard all positions are those of the text inside, and the one range is all of it.
"""

from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from bisieve.storage import open_filesystem, storage_errors

CODECS = {".gz": "gzip", ".zst": "zstd"}

BLOCK = 4 * 2**20  # bytes read at a time


class Block(NamedTuple):
    """Consecutive whole lines of a shard, ``\n`` between them and none behind the last."""

    offset: int  # of the first line's first byte in the shard
    data: bytes


def read_blocks(url: str, start: int, end: int, size: int = BLOCK) -> Iterator[Block]:
    """Every line of ``url`` whose first byte lies in ``[start, end)``, some ``size`` bytes at a time.

    Lines end at ``\n`` alone: ``splitlines`` would also split at U+2028 and the like.  Memory is bounded by
    the size of a block and the longest line.
    """
    with storage_errors(url), open_text(url, size) as file:
        yield from _blocks_of(file, start, end, size)


def codec_of(url: str) -> str | None:
    """How the shard at ``url`` is compressed; None: it is not, and can be read from any place on."""
    return next((codec for suffix, codec in CODECS.items() if url.endswith(suffix)), None)


def open_text(url: str, block: int = BLOCK) -> Any:
    """The bytes of a shard, decompressed, as a file to be read in blocks."""
    fs, path = open_filesystem(url)
    file = fs.open(path, "rb", cache_type="none", block_size=block)
    codec = codec_of(url)
    if codec is None:
        return file
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(file, "r"), codec)


def _blocks_of(file: IO[bytes], start: int, end: int, size: int) -> Iterator[Block]:
    # The byte before the range tells whether a line begins at its first byte.
    position = max(start - 1, 0)
    if position:
        file.seek(position)
    skipping = start > 0
    rest: list[bytes] = []  # the pieces of a line that no block has ended yet
    begun = position  # where that line begins
    while position < end or rest:
        data = file.read(min(size, end - position) if position < end else size)
        if not data:
            break
        position += len(data)
        if skipping:
            newline = data.find(b"\n")
            if newline < 0:
                continue
            data = data[newline + 1 :]
            begun = position - len(data)
            skipping = False
        # Past the end of the range only the line that is begun is read on.
        last = data.rfind(b"\n") if position <= end else data.find(b"\n")
        if last < 0:
            if data:
                rest.append(data)
            continue
        yield Block(begun, b"".join([*rest, memoryview(data)[:last]]))
        begun = position - len(data) + last + 1
        rest = [data[last + 1 :]] if begun < min(position, end) else []
    if rest:
        yield Block(begun, b"".join(rest))
