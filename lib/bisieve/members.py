"""Files of bz2 and xz as the text inside, with every compressed stream that stands in them."""

import bz2
import io
import lzma
from collections.abc import Callable
from typing import Any

DECODERS: dict[str, Callable[[], Any]] = {"bz2": bz2.BZ2Decompressor, "xz": lzma.LZMADecompressor}

_REQUEST = 2**20  # compressed bytes read at once


def open_members(file: Any, codec: str) -> io.BufferedReader:
    """Return the decompressed bytes of ``file`` as a file to be read from its start.

    The standard library's own files take bytes that are no stream for the end of the text; here they are an
    error.  Reading raises ``OSError`` or ``lzma.LZMAError`` for damaged bytes, ``EOFError`` for missing ones.
    """
    return io.BufferedReader(_Members(file, DECODERS[codec]), _REQUEST)


class _Members(io.RawIOBase):
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
        """Return the first bytes behind a stream; zeros may fill the gap between two of xz."""
        given = self._decoder.unused_data or self._file.read(_REQUEST)
        if self._make is lzma.LZMADecompressor:
            while given and not (given := given.lstrip(b"\0")):
                given = self._file.read(_REQUEST)
        return bytes(given)
