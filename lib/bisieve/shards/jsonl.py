"""Read the lines of a byte range of a JSONL shard, plain or compressed, and check a block of them as a whole.

A line belongs to the range that contains its first byte.  In a compressed shard all offsets are offsets in
the decompressed text, and there is only one range, all of it.

    open_text (decompress) → _blocks_of (whole lines) → _first_lines (mark, format) → _smaller → Block
    Block → line_places → records_of: all records of a block, which is faster than line by line
"""

import bz2
import io
import lzma
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import IO, Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from fsspec.implementations.local import LocalFileSystem

from bisieve.errors import CorpusError
from bisieve.io.read import damage, open_retrying
from bisieve.io.urls import codec_of, open_filesystem
from bisieve.records.decode import BYTE_ORDER_MARK
from bisieve.records.prompt import MARKER

Ints: TypeAlias = npt.NDArray[np.int64]

BLOCK = 4 * 2**20  # bytes of a `Block`

_OF_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_TOO_WIDE = "requires too much memory for decoding"  # in Arrow's error for files of zstd --long
_ARRAY = re.compile(rb"\s*\[\s*\{")
_OVER_LINES = re.compile(rb"\s*\{\s*\n\s*\"")

REQUEST = 8 * 2**20  # bytes of a request to a store
TAIL = 2**18  # bytes read at once after the range, for the end of its last line

DECODERS: dict[str, Callable[[], Any]] = {"bz2": bz2.BZ2Decompressor, "xz": lzma.LZMADecompressor}

_REQUEST = 2**20  # compressed bytes read at once

_LONG = 1024  # bytes; above this line length bytes.find per line is faster than numpy over all bytes
_FIRST = itemgetter(0)
_MARKER_BEGINS = MARKER[0]
_WHITE_SPACE = frozenset(filter(str.isspace, map(chr, range(0x3001))))  # none above U+3000


class Block(NamedTuple):
    """Consecutive whole lines of a shard, separated by newlines, without one after the last."""

    offset: int  # of the first line's first byte in the (decompressed) shard
    data: bytes


def read_blocks(url: str, start: int, end: int, size: int = BLOCK) -> Iterator[Block]:
    r"""Yield the lines of ``url`` whose first byte is in ``[start, end)``, in blocks of about ``size`` bytes.

    Lines end only at ``\n``: ``splitlines`` would also split at U+2028 and others.  A byte order mark at the
    start of the shard is removed.  Memory use is bounded by the size of a block or a request, plus the
    longest line.

    Raises:
        CorpusError: The file cannot be decompressed, or its first bytes show that it is not JSON lines.
        StorageError: The file cannot be read.
    """
    on_disk = isinstance(open_filesystem(url)[0], LocalFileSystem)
    with open_text(url) as file:
        for block in _blocks_of(file, start, end, size if on_disk else max(size, REQUEST)):
            yield from _smaller(_first_lines(block, url) if block.offset == 0 else block, size)


@contextmanager
def open_text(url: str) -> Iterator[Any]:
    """Open a shard as a binary file of its decompressed text, for reading in sequence.

    A shard without compression can also ``seek``.

    Raises:
        CorpusError: The bytes cannot be decompressed.
        StorageError: The file cannot be read.
    """
    codec = codec_of(url)
    with open_retrying(url, cache_type="none") as file:
        if codec is None:
            yield file
            return
        hint = "recreate it, or exclude it from --input"
        try:
            with (
                damage(CorpusError, f"a whole {codec} file at {url}", hint),
                _decompressed(file, codec) as text,
            ):
                yield text
        except CorpusError as error:
            if _TOO_WIDE not in error.args[1]:
                raise
            raise CorpusError(
                f"a zstd file with a window of at most 128 MiB at {url}",
                "a larger one, as of zstd --long=28 and more",
                "recompress it: zstd -dc --long=31 OLD | zstd -o NEW",
            ) from error


def _decompressed(file: Any, codec: str) -> Any:
    if codec in DECODERS:
        return open_members(file, codec)
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(file, "r"), codec)


def _first_lines(block: Block, url: str) -> Block:
    """Return the first lines of a shard without a byte order mark; raise if they are not JSON lines.

    Raises:
        CorpusError: The text is UTF-16 or UTF-32, a JSON array, or a JSON object over several lines.
    """
    data = block.data.removeprefix(BYTE_ORDER_MARK)
    found = None
    if data.startswith(_OF_UTF_16):
        found, fix = "text in UTF-16 or UTF-32", "convert it: iconv -f UTF-16 -t UTF-8"
    elif _ARRAY.match(data):
        found, fix = "a JSON array, not JSON lines", "write one record a line: jq -c '.[]'"
    elif _OVER_LINES.match(data):
        found, fix = "a JSON object over several lines", "write one record a line: jq -c ."
    if found:
        raise CorpusError(f"one JSON record a line, in UTF-8, at {url}", found, fix)
    return Block(len(block.data) - len(data), data)


def _smaller(block: Block, size: int) -> Iterator[Block]:
    """Yield the lines of ``block`` in blocks of about ``size`` bytes."""
    offset, data = block
    begin = 0
    while len(data) - begin > 2 * size and (end := data.find(b"\n", begin + size)) >= 0:
        yield Block(offset + begin, data[begin:end])
        begin = end + 1
    yield Block(offset + begin, data[begin:]) if begin else block


def _blocks_of(file: IO[bytes], start: int, end: int, size: int) -> Iterator[Block]:
    """Yield the lines that begin in ``[start, end)``: one block for each read of about ``size`` bytes."""
    # The byte before the range shows whether a line begins at the first byte of the range.
    position = max(start - 1, 0)
    if position:
        file.seek(position)
    skipping = start > 0
    rest: list[bytes] = []  # the pieces of a line whose end has not been read yet
    begun = position  # offset of that line
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
        # After the end of the range, only the last line is read to its end.
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


def open_members(file: Any, codec: str) -> io.BufferedReader:
    """Return a file of the decompressed bytes of ``file``, to be read from its start.

    `bz2.BZ2File` and `lzma.LZMAFile` treat bytes after a stream that are not a stream as the end of the
    file; here they are an error.  Reading raises ``OSError`` or ``lzma.LZMAError`` for damaged bytes, and
    ``EOFError`` if the file ends inside a stream.

    Args:
        file: The compressed file, at its start.
        codec: "bz2" or "xz".
    """
    return io.BufferedReader(_Members(file, DECODERS[codec]), _REQUEST)


class _Members(io.RawIOBase):
    """Raw file of the decompressed bytes of all streams of a bz2 or xz file, which may have several."""

    def __init__(self, file: Any, decoder: Callable[[], Any]) -> None:
        self._file = file
        self._make = decoder
        self._decoder = decoder()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _some(self, most: int) -> bytes:
        """Return up to ``most`` decompressed bytes; b"" at the end of the last stream."""
        while True:
            given = b""
            if self._decoder.eof:
                given = self._next_stream()
                if not given:
                    return b""
                self._decoder = self._make()
            elif self._decoder.needs_input:
                given = self._file.read(_REQUEST)
                if not given:
                    raise EOFError("the file ends inside a compressed stream")
            if data := self._decoder.decompress(given, most):
                return bytes(data)

    def _next_stream(self) -> bytes:
        """Return the first bytes after a stream; between two xz streams, zeros are padding and skipped."""
        given = self._decoder.unused_data or self._file.read(_REQUEST)
        if self._make is lzma.LZMADecompressor:
            while given and not (given := given.lstrip(b"\0")):
                given = self._file.read(_REQUEST)
        return bytes(given)


class Places(NamedTuple):
    """Byte positions of lines in their block, [lines] each."""

    start: Ints
    end: Ints  # exclusive, before the line's newline


def line_places(data: bytes) -> Places:
    """Return the positions of the lines in the bytes of a block."""
    newlines = _far_apart(data) if data.find(b"\n") > _LONG else _close_together(data)
    return Places(np.concatenate([[0], newlines + 1]), np.append(newlines, len(data)))


def _far_apart(data: bytes) -> Ints:
    found: list[int] = []
    place = data.find(b"\n")
    while place >= 0:
        found.append(place)
        place = data.find(b"\n", place + 1)
    return np.array(found, np.int64)


def _close_together(data: bytes) -> Ints:
    return np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))


def records_of(block: Block, places: Places, decode_lines: Callable[[bytes], list[Any]]) -> list[Any] | None:
    """Return the decoded records of ``block``, one for each line, or None if any line is not one record."""
    if not _one_object_a_line(block.data, places):
        return None
    try:
        found = decode_lines(block.data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return found if len(found) == len(places.start) else None


def _one_object_a_line(data: bytes, places: Places) -> bool:
    """Return whether every line begins with ``{`` and ends with ``}``.

    Then no record extends over a newline, since no JSON value contains ``}``, newline, ``{`` in sequence.
    A line with two records is found by the caller, which compares the number of records with that of lines.
    """
    if not data.endswith(b"}"):
        return False
    text = np.frombuffer(data, np.uint8)
    return bool((text[places.start] == ord("{")).all() and (text[places.end - 1] == ord("}")).all())


def all_say_something(texts: list[str]) -> bool:
    """Return whether none of ``texts`` is blank (empty or white space only)."""
    try:
        heads = set(map(_FIRST, texts))
    except IndexError:
        return False
    # Texts rarely begin with white space, so whole texts are rarely checked.
    return _WHITE_SPACE.isdisjoint(heads) or not any(map(str.isspace, texts))


def hold_marker(texts: list[str]) -> bool:
    """Return whether any of ``texts`` contains the reward marker ``<prm>``."""
    # Searching for one character is many times faster than for five.
    return any([MARKER in text for text in texts if _MARKER_BEGINS in text])  # noqa: C419


def image_names(images: list[Any]) -> list[Any]:
    """Return all names in the ``image`` fields of records; "" for an empty list, which so counts as blank."""
    if {str}.issuperset(map(type, images)):
        return images
    return [name for image in images for name in (image or [""] if isinstance(image, list) else [image])]
