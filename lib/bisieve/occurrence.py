"""Counts the rollouts of each question over pieces of a sorted whole: a question may be larger than a piece.

The pieces, one behind the other, are ordered by `ranking.question_order`; each was counted for itself by
`ranking.with_occurrence`.  What a piece's first question has in the pieces before comes on top.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from bisieve.manifest import Parameters
from bisieve.ranking import question_group

Question = tuple[str, ...]  # what tells it from others, in its scope


class Ends(NamedTuple):
    """What the pieces behind one need to know of it."""

    first: Question
    last: Question
    rollouts: int  # of the last question, in this piece


def ends(rows: pa.Table, parameters: Parameters) -> Ends:
    """The first and the last question of a piece of at least one row."""
    first, last = (rows.slice(place, 1).to_pylist()[0] for place in (0, rows.num_rows - 1))
    names = question_group(parameters)
    return Ends(
        tuple(first[name] for name in names), tuple(last[name] for name in names), rollouts=last["tie"]
    )


def counted_before(pieces: Sequence[Ends]) -> list[int]:
    """For each piece the rollouts of its first question in all pieces before it."""
    before: list[int] = []
    for place, piece in enumerate(pieces):
        previous = pieces[place - 1] if place else None
        if previous is None or previous.last != piece.first:
            before.append(0)
        else:
            before.append(previous.rollouts + (before[-1] if previous.first == previous.last else 0))
    return before


def continued(rows: pa.Table, parameters: Parameters, before: int) -> pa.Table:
    """A piece with the count of its first question going on from ``before``."""
    if not before:
        return rows
    mine = np.ones(rows.num_rows, np.bool_)
    for name in question_group(parameters):
        codes = rows[name].combine_chunks().dictionary_encode().indices.to_numpy()
        mine &= codes == codes[0]
    tie = pa.array(rows["tie"].to_numpy() + before * mine)
    return rows.set_column(rows.column_names.index("tie"), "tie", tie)
