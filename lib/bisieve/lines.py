"""The lines of a byte range: each line belongs to the range that holds its first byte.

In a compressed shard all positions are those of the text inside, and the one range is all of it.
"""

from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from bisieve.reading import open_whole
from bisieve.storage import storage_errors

CODECS = {".gz": "gzip", ".zst": "zstd"}

BLOCK = 4 * 2**20  # bytes read at a time


class Lines(NamedTuple):
    """Consecutive lines of a shard, without their ``\\n``."""

    offset: int  # of the first line's first byte in the shard
    lines: list[bytes]


def read_lines(url: str, start: int, end: int, block: int = BLOCK) -> Iterator[Lines]:
    """Every line of ``url`` whose first byte lies in ``[start, end)``, a block at a time.

    Lines end at ``\\n`` alone: ``splitlines`` would also split at U+2028 and the like.  Memory is bounded by
    the block and the longest line.
    """
    with storage_errors(url), open_text(url, block) as file:
        yield from _lines_of(file, start, end, block)


def codec_of(url: str) -> str | None:
    """How the shard at ``url`` is compressed; None: it is not, and can be read from any place on."""
    return next((codec for suffix, codec in CODECS.items() if url.endswith(suffix)), None)


def open_text(url: str, block: int = BLOCK) -> Any:
    """The bytes of a shard, decompressed, as a file to be read in blocks."""
    file = open_whole(url, cache_type="none", block_size=block)
    codec = codec_of(url)
    if codec is None:
        return file
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(file, "r"), codec)


def _lines_of(file: IO[bytes], start: int, end: int, block: int) -> Iterator[Lines]:
    # The byte before the range tells whether a line begins at its first byte.
    position = max(start - 1, 0)
    if position:
        file.seek(position)
    skipping = start > 0
    rest: list[bytes] = []  # the pieces of a line that no block has ended yet
    begun = position  # where that line begins
    while position < end or rest:
        data = file.read(min(block, end - position) if position < end else block)
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
        if b"\n" not in data:
            if data:
                rest.append(data)
            continue
        lines = data.split(b"\n")
        tail = lines.pop()
        if rest:
            lines[0] = b"".join([*rest, lines[0]])
            rest = []
        offset, begun = begun, position - len(tail)
        if position >= end:
            lines, tail = _cut_at_end(lines, offset, end), tail if begun < end else b""
        if lines:
            yield Lines(offset, lines)
        if tail:
            rest = [tail]
    if rest:
        yield Lines(begun, [b"".join(rest)])


def _cut_at_end(lines: list[bytes], offset: int, end: int) -> list[bytes]:
    kept = 0
    while kept < len(lines) and offset < end:
        offset += len(lines[kept]) + 1
        kept += 1
    return lines[:kept]
