"""Decode and check all lines of a block together, which is faster than line by line."""

from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from bisieve.records.prompt import MARKER
from bisieve.shards.jsonl import Block

Ints: TypeAlias = npt.NDArray[np.int64]

_LONG = 1024  # bytes; above this line length bytes.find per line is faster than numpy over all bytes
_FIRST = itemgetter(0)
_MARKER_BEGINS = MARKER[0]
_WHITE_SPACE = frozenset(filter(str.isspace, map(chr, range(0x3001))))  # none above U+3000


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
