"""The lines of a byte range: each line belongs to the range that holds its first byte.

In a compressed shard all positions are those of the text inside, and the one range is all of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

from fsspec.implementations.local import LocalFileSystem

from bisieve.errors import CorpusError
from bisieve.storage import open_filesystem
from bisieve.whole import open_whole

CODECS = {".gz": "gzip", ".zst": "zstd"}

BLOCK = 4 * 2**20  # bytes of lines handed out together
REQUEST = 8 * 2**20  # bytes that a store is asked for at once
TAIL = 2**18  # bytes read at once behind the range, for the end of its last line


class Block(NamedTuple):
    """Consecutive whole lines of a shard, ``\n`` between them and none behind the last."""

    offset: int  # of the first line's first byte in the shard
    data: bytes


def read_blocks(url: str, start: int, end: int, size: int = BLOCK) -> Iterator[Block]:
    """Every line of ``url`` whose first byte lies in ``[start, end)``, some ``size`` bytes at a time.

    Lines end at ``\n`` alone: ``splitlines`` would also split at U+2028 and the like.  Memory is bounded by
    the size of a block or of a request, and the longest line.  Raises what `open_text` raises.
    """
    on_disk = isinstance(open_filesystem(url)[0], LocalFileSystem)
    with open_text(url) as file:
        for block in _blocks_of(file, start, end, size if on_disk else max(size, REQUEST)):
            yield from _smaller(block, size)


def codec_of(url: str) -> str | None:
    """How the shard at ``url`` is compressed; None: it is not, and can be read from any place on."""
    return next((codec for suffix, codec in CODECS.items() if url.endswith(suffix)), None)


@contextmanager
def open_text(url: str) -> Iterator[Any]:
    """The bytes of a shard, decompressed, as a file to be read in blocks.

    `CorpusError` where they cannot be decompressed, `StorageError` where they cannot be read.
    """
    codec = codec_of(url)
    with open_whole(url, cache_type="none") as file:
        if codec is None:
            yield file
            return
        import pyarrow as pa

        from bisieve.damage import damage

        mend = "write it again, or leave it out of --input"
        whole = damage(CorpusError, f"a whole {codec} file at {url}", mend)
        with whole, pa.CompressedInputStream(pa.PythonFile(file, "r"), codec) as text:
            yield text


def _smaller(block: Block, size: int) -> Iterator[Block]:
    """The lines of ``block`` in blocks of about ``size`` bytes."""
    offset, data = block
    begin = 0
    while len(data) - begin > 2 * size and (end := data.find(b"\n", begin + size)) >= 0:
        yield Block(offset + begin, data[begin:end])
        begin = end + 1
    yield Block(offset + begin, data[begin:]) if begin else block


def _blocks_of(file: IO[bytes], start: int, end: int, size: int) -> Iterator[Block]:
    # The byte before the range tells whether a line begins at its first byte.
    position = max(start - 1, 0)
    if position:
        file.seek(position)
    skipping = start > 0
    rest: list[bytes] = []  # the pieces of a line that no block has ended yet
    begun = position  # where that line begins
    while position < end or rest:
        data = file.read(min(size, end - position) if position < end else min(size, TAIL))
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
