"""Group passes: what a ranking needs to know of all rollouts of a group, such as those of a question.

rows ──prepare──▶ sort by group ──`totals`──▶ place in the group, size, sums ──finish──▶ rows with a new key

Rows sorted by group may be cut into pieces, and a group may extend over several.  Each piece counts its own
rows and describes its first and last group (`ends`); from those of all pieces `completions` tells what each
piece lacks, and `completed` adds it.  So neither a task nor the driver holds a large group.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisieve.ranking.sort import Order, begins, sorted_indices
from bisieve.records.options import Parameters

# Unique, since no two rollouts begin at the same place.
BEST_FIRST: Order = (
    ("key", "descending"),
    ("tie", "ascending"),
    ("shard", "ascending"),
    ("offset", "ascending"),
)
PLACE, SIZE = "_place", "_size"  # columns: place in the group, from 1, and number of rollouts of the group


@dataclass(frozen=True)
class GroupPass:
    """A step of a ranking that needs whole groups; its functions are module-level ones, to be pickled."""

    group: Callable[[Parameters], tuple[str, ...]]  # columns; equal values make a group
    prepare: Callable[[pa.Table, Parameters], pa.Table]  # adds the columns that the others use
    finish: Callable[[pa.Table, Parameters], pa.Table]  # gets `PLACE`, `SIZE` and the sums; sets key or tie
    before: Order = ()  # the order in a group, before best first
    sums: tuple[str, ...] = ()  # int64 columns that are replaced by their sums over the group

    def order(self, parameters: Parameters) -> Order:
        """Return the order by group, and inside a group best first; it is unique."""
        return (*((name, "ascending") for name in self.group(parameters)), *self.before, *BEST_FIRST)


def question_group(parameters: Parameters) -> tuple[str, ...]:
    """Return the columns that identify a question; with scope "source" each source has its own questions."""
    return ("question_id",) if parameters.scope == "global" else ("source", "question_id")


def unchanged(rows: pa.Table, parameters: Parameters) -> pa.Table:
    """Return the rows; for passes that need no further columns."""
    return rows


def applied(rows: pa.Table, step: GroupPass, parameters: Parameters) -> pa.Table:
    """Apply a pass to rows that hold all of their groups; the result is ordered by group."""
    rows = step.prepare(rows, parameters)
    rows = rows.take(sorted_indices(rows, step.order(parameters)))
    return finished(totals(rows, step, parameters), step, parameters)


def finished(rows: pa.Table, step: GroupPass, parameters: Parameters) -> pa.Table:
    """Finish rows with complete totals, and drop the columns of the pass that begin with an underscore."""
    rows = step.finish(rows, parameters)
    return rows.drop_columns([name for name in rows.column_names if name.startswith("_")])


def totals(rows: pa.Table, step: GroupPass, parameters: Parameters) -> pa.Table:
    """Add `PLACE` and `SIZE` to sorted rows and replace the columns ``step.sums`` by sums over the group.

    Only ``rows`` are counted; `completed` adds what other pieces have of the first and last group.
    """
    starts = np.flatnonzero(begins(rows, step.group(parameters)))
    sizes = np.diff([*starts, rows.num_rows])
    place = np.arange(rows.num_rows) - np.repeat(starts, sizes) + 1
    rows = rows.append_column(PLACE, pa.array(place)).append_column(SIZE, pa.array(np.repeat(sizes, sizes)))
    for name in step.sums:
        sums = np.add.reduceat(rows[name].to_numpy(), starts) if len(starts) else np.zeros(0, np.int64)
        rows = with_column(rows, name, np.repeat(sums, sizes))
    return rows


def with_column(rows: pa.Table, name: str, values: npt.NDArray[Any]) -> pa.Table:
    """Return ``rows`` with a column added or replaced."""
    if name in rows.column_names:
        return rows.set_column(rows.column_names.index(name), name, pa.array(values))
    return rows.append_column(name, pa.array(values))


class Part(NamedTuple):
    """What one piece has of a group."""

    group: tuple[Any, ...]  # values of the columns of the group
    counts: tuple[int, ...]  # number of rows, then the sums


Ends: TypeAlias = tuple[Part, ...]  # of the first and the last group of a piece, or of the only one


def ends(rows: pa.Table, step: GroupPass, parameters: Parameters) -> Ends:
    """Return the `Ends` of a piece that `totals` returned, of at least one row."""
    group, counted = step.group(parameters), (SIZE, *step.sums)
    parts = []
    for place in (0, rows.num_rows - 1):
        row = rows.select([*group, *counted]).slice(place, 1).to_pylist()[0]
        parts.append(Part(tuple(row[name] for name in group), tuple(row[name] for name in counted)))
    return tuple(parts[:1] if parts[0].group == parts[1].group else parts)


class Completion(NamedTuple):
    """What a piece lacks of its first and its last group."""

    before: int  # rows of the first group in earlier pieces
    first: tuple[int, ...]  # counts of the whole first group: rows, then the sums
    last: tuple[int, ...]


def completions(pieces: Sequence[Ends]) -> list[Completion]:
    """Return the `Completion` of each piece, in order, from the ends of all pieces."""
    before: list[int] = []
    counts: list[tuple[int, ...]] = []
    for _, parts in groupby((part for piece in pieces for part in piece), key=lambda part: part.group):
        of_group = [part.counts for part in parts]
        whole = tuple(map(sum, zip(*of_group, strict=True)))
        rows = [0, *np.cumsum([count[0] for count in of_group]).tolist()]
        before += rows[:-1]
        counts += [whole] * len(of_group)
    found, start = [], 0
    for piece in pieces:
        found.append(Completion(before[start], counts[start], counts[start + len(piece) - 1]))
        start += len(piece)
    return found


def completed(rows: pa.Table, step: GroupPass, parameters: Parameters, lacks: Completion) -> pa.Table:
    """Return a piece with the places and totals of whole groups."""
    starts = np.flatnonzero(begins(rows, step.group(parameters)))
    first = slice(0, starts[1] if len(starts) > 1 else rows.num_rows)
    last = slice(starts[-1], rows.num_rows)
    place = rows[PLACE].to_numpy().copy()
    place[first] += lacks.before
    rows = with_column(rows, PLACE, place)
    for number, name in enumerate((SIZE, *step.sums)):
        values = rows[name].to_numpy().copy()
        values[first], values[last] = lacks.first[number], lacks.last[number]
        rows = with_column(rows, name, values)
    return rows
