"""Rollouts that a selection leaves out, by their ids: ``--exclude FILE``.

FILE ──`read_exclusion`──▶ `Exclusion`: those ids that rollouts of the index have ──`without`──▶ fewer rows

The selection is that of a corpus without these rollouts: they are left out before anything is ranked.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from bisieve._text import pluralize
from bisieve.errors import UsageError
from bisieve.index.reader import Index, open_part
from bisieve.io.storage import read_bytes
from bisieve.io.urls import canonical


@dataclass(frozen=True)
class LeftOut:
    """What a selection does without; equal digests mean equal ids."""

    digest: str = ""  # of the ids of the rollouts, 64 hex digits; "" if no rollout is left out
    rollouts: int = 0  # of the index, that are left out
    unknown: int = 0  # ids that were asked for, and that no rollout of the index has


NOTHING_LEFT_OUT = LeftOut()


@dataclass(frozen=True)
class Exclusion:
    """Ids of rollouts of an index that are not to be selected."""

    ids: frozenset[str] = frozenset()  # of rollouts of the index
    rollouts: int = 0  # of the index, that have one of these ids
    unknown: int = 0  # further ids that were asked for, and that no rollout of the index has

    @cached_property
    def left_out(self) -> LeftOut:
        """Return what tells selections apart."""
        if not self.ids:
            return NOTHING_LEFT_OUT
        digest = hashlib.sha256(json.dumps(sorted(self.ids)).encode()).hexdigest()
        return LeftOut(digest, self.rollouts, self.unknown)

    def without(self, rows: pa.Table) -> pa.Table:
        """Return the ``rows`` (with the column ``rollout_id``) that are not left out."""
        if not self.ids:
            return rows
        return rows.filter(pc.invert(pc.is_in(rows["rollout_id"], pa.array(sorted(self.ids), pa.string()))))


NOTHING = Exclusion()


def read_exclusion(index: Index, url: str | None) -> Exclusion:
    """Read a file of rollout ids, UTF-8 text with one id a line.

    Args:
        index: The version whose rollouts are left out.
        url: URL of the file; None for no exclusion. Empty lines are skipped, and an empty file leaves out
            nothing.

    Raises:
        UsageError: The file is not text, or no rollout of the index has any of its ids.
        StorageError: The file cannot be read.
        IndexUnusableError: A file of the index is missing or damaged.
    """
    if not url:
        return NOTHING
    ids = ids_in(url)
    exclusion = exclusion_of(index, ids)
    if ids and not exclusion.ids:
        raise UsageError(
            f"ids of rollouts of {index.url} in {url}, one a line",
            f"none in {pluralize(len(ids), 'id')}, such as {min(ids)[:60]}",
            "correct --exclude, or leave it out",
        )
    return exclusion


def ids_in(url: str) -> set[str]:
    """Return the ids in a file.

    Raises:
        UsageError: The file is not text, or JSON.
        StorageError: The file cannot be read.
    """
    try:
        text = read_bytes(canonical(url)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"text with one rollout_id a line in {url}", "other bytes", "correct it") from error
    if _is_json(text):  # into which `bisieve explore` would write marks
        raise UsageError(f"text with one rollout_id a line in {url}", "JSON", "name another file")
    return {line.removesuffix("\r") for line in text.split("\n")} - {""}


def _is_json(text: str) -> bool:
    """Return whether a text, or its first line as in JSONL, is JSON; an id may begin as JSON does."""
    if not text.startswith(("{", "[")):
        return False
    for part in (text.partition("\n")[0], text):
        try:
            json.loads(part)
        except ValueError:
            continue
        return True
    return False


def ids_text(ids: Iterable[str]) -> str:
    """Return the content of a file of ``ids``.

    Raises:
        UsageError: An id has a line break.
    """
    lines = list(ids)
    if broken := next((each for each in lines if "\n" in each or each.endswith("\r")), None):
        raise UsageError("ids without a line break", repr(broken), "leave out its rollout in another way")
    return "".join(f"{each}\n" for each in lines)


def exclusion_of(index: Index, ids: Iterable[str]) -> Exclusion:
    """Return which of ``ids`` rollouts of the index have; one column of the index is read.

    Raises:
        IndexUnusableError: A file of the index is missing or damaged.
    """
    asked = set(ids)
    wanted = pa.array(sorted(asked), pa.string())
    found: list[str] = []
    for part in index.files if asked else ():
        with open_part(index.url, part) as file:
            for group in range(file.num_row_groups):
                column = file.read_row_group(group, ["rollout_id"], use_threads=False)["rollout_id"]
                found += column.filter(pc.is_in(column, wanted)).to_pylist()
    known = frozenset(found)
    return Exclusion(known, len(found), len(asked - known))
