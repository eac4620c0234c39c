"""A block of lines read as a whole: where its lines lie, and the records in them."""

from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from bisieve.records.prompt import MARKER
from bisieve.shards.jsonl import Block

Ints: TypeAlias = npt.NDArray[np.int64]

_LONG = 1024  # bytes of a line from which on finding ends one by one is faster than comparing all bytes
_FIRST = itemgetter(0)
_MARKER_BEGINS = MARKER[0]
_WHITE_SPACE = frozenset(filter(str.isspace, map(chr, range(0x3001))))  # there is none beyond


class Places(NamedTuple):
    """Where lines lie in their block, ``[lines]`` each."""

    start: Ints
    end: Ints  # of the text, the line's own end excluded


def line_places(data: bytes) -> Places:
    """Where the lines of a block begin and end."""
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
    """The records of ``block``, one a line, or None where one of the lines holds anything else."""
    if not _one_object_a_line(block.data, places):
        return None
    try:
        found = decode_lines(block.data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return found if len(found) == len(places.start) else None


def _one_object_a_line(data: bytes, places: Places) -> bool:
    """Whether every line begins and ends as an object does.

    Then no record goes on over the end of a line, since no JSON value holds ``}``, a newline and ``{``; that
    none shares a line is for their number to tell.
    """
    if not data.endswith(b"}"):
        return False
    text = np.frombuffer(data, np.uint8)
    return bool((text[places.start] == ord("{")).all() and (text[places.end - 1] == ord("}")).all())


def all_say_something(texts: list[str]) -> bool:
    """Whether none of ``texts`` is blank."""
    try:
        heads = set(map(_FIRST, texts))
    except IndexError:
        return False
    # Hardly a text begins with white space, so hardly ever is a whole one looked at.
    return _WHITE_SPACE.isdisjoint(heads) or not any(map(str.isspace, texts))


def hold_marker(texts: list[str]) -> bool:
    """Whether one of ``texts`` holds the reward marker."""
    # One character is looked for many times faster than five.
    return any([MARKER in text for text in texts if _MARKER_BEGINS in text])  # noqa: C419


def image_names(images: list[Any]) -> list[Any]:
    """All names in the ``image`` fields of records; where a list of names is empty, an empty one."""
    if {str}.issuperset(map(type, images)):
        return images
    return [name for image in images for name in (image or [""] if isinstance(image, list) else [image])]
