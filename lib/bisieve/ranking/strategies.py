"""Order scored rollouts: by a strategy, per source or over all, with a rule for ties.

A question may have more rollouts than a piece of the sorted whole: each piece counts its own
(`with_occurrence`), then what earlier pieces counted of a piece's first question is added.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from bisieve.errors import UsageError
from bisieve.ranking.sort import Order, sorted_indices
from bisieve.records.options import Parameters

Key = npt.NDArray[np.float64]
TieBlock = tuple[str, float, int]  # source, key, rollouts

STRATEGIES = ("bis", "random", "mixed", "reliable", "low_mc", "all")
SHUFFLED = ("random", "mixed")  # strategies whose ties are in random order, always

# Unique: no two rollouts begin at one place.
_BEST_FIRST: Order = (
    ("key", "descending"),
    ("tie", "ascending"),
    ("shard", "ascending"),
    ("offset", "ascending"),
)
INDEX_ORDER: Order = (("source", "ascending"), ("rank", "ascending"))
REJECTS_ORDER: Order = (("shard", "ascending"), ("offset", "ascending"))

Question = tuple[str, ...]  # what tells it from others, in its scope


def ranking_order(parameters: Parameters) -> Order:
    """Best first, inside the source or over all."""
    return _BEST_FIRST if parameters.scope == "global" else (("source", "ascending"), *_BEST_FIRST)


def with_keys(table: pa.Table, parameters: Parameters) -> pa.Table:
    """``table`` with the columns ``key``, float64, by which the best come first, and ``tie``, int64.

    ``tie`` orders rollouts of equal key, the smallest first.  It is 0 where their place decides, and with
    ``ties=spread``, whose ties need all rollouts of a question.
    """
    tie = np.zeros(table.num_rows, np.int64)
    if parameters.ties == "hash" or parameters.strategy in SHUFFLED:
        seed = parameters.seed
        hashes = [xxhash.xxh3_64_intdigest(name.encode(), seed) for name in table["rollout_id"].to_pylist()]
        tie = np.array(hashes, np.uint64).view(np.int64)
    key = pa.array(ranking_key(table, parameters.strategy))
    return table.append_column("key", key).append_column("tie", pa.array(tie))


def ranking_key(table: pa.Table, strategy: str) -> Key:
    """What a strategy ranks by, the greatest first, float64 ``[rows]``.

    They are those of the paper's ablation (§5.2); ours to fill in where it is silent.
    """
    bis: Key = table["bis"].to_numpy()
    p: Key = table["positive_fraction"].to_numpy()
    reliability: Key = table["reliability"].to_numpy()
    if strategy == "bis":
        return bis
    if strategy == "mixed":  # the mixture alone; those without one behind, in random order
        return p * (1.0 - p)
    if strategy == "reliable":
        return reliability
    if strategy == "low_mc":  # the lowest mean score first
        steps = table["num_steps"].to_numpy()
        owner = np.repeat(np.arange(len(steps)), steps)
        scores = table["scores"].combine_chunks().flatten().to_numpy()
        sums = np.bincount(owner, weights=scores, minlength=len(steps))
        return np.asarray(-sums / steps, np.float64)
    return np.zeros(table.num_rows)  # random, all


def question_group(parameters: Parameters) -> list[str]:
    """The columns that tell a question from others, in its source or over all."""
    return ["question_id"] if parameters.scope == "global" else ["source", "question_id"]


def question_order(parameters: Parameters) -> Order:
    """The rollouts of a question together, the best first."""
    return (*((name, "ascending") for name in question_group(parameters)), *_BEST_FIRST)


def with_occurrence(table: pa.Table, parameters: Parameters) -> pa.Table:
    """``table`` by `question_order`, ``tie`` = 1 for the best rollout of its question, 2 for the second, …

    All rollouts of its questions must be in ``table``; where they are not, `strategies` goes on from here.
    """
    table = table.take(sorted_indices(table, question_order(parameters)))
    tie = pa.array(places_in(table, question_group(parameters)))
    return table.set_column(table.column_names.index("tie"), "tie", tie)


def places_in(table: pa.Table, columns: list[str]) -> npt.NDArray[np.int64]:
    """The place of each row among those with the same ``columns``, which stand together; from 1 on."""
    place = np.arange(table.num_rows)
    return place - np.maximum.accumulate(np.where(_begins(table, columns), place, 0)) + 1


def telling_tie_blocks(table: pa.Table) -> list[TieBlock]:
    """Blocks of equal source and key: the first, the last and the largest of each source, in order."""
    starts = np.flatnonzero(_begins(table, ["source", "key"]))
    lengths = np.diff([*starts, table.num_rows])
    of_sources = np.searchsorted(starts, np.flatnonzero(_begins(table, ["source"])))
    largest = [
        first + int(lengths[first:end].argmax()) for first, end in pairwise([*of_sources, len(starts)])
    ]
    telling = sorted({0, len(starts) - 1, *largest})
    blocks = table.select(["source", "key"]).take(starts[telling]).to_pylist()
    return [
        (block["source"], block["key"], length)
        for block, length in zip(blocks, lengths[telling].tolist(), strict=True)
    ]


def largest_tie_blocks(files: Iterable[Sequence[TieBlock]]) -> dict[str, int]:
    """The most rollouts of each source that share a key, from the telling blocks of all files in order."""
    largest: dict[str, int] = {}
    before: TieBlock | None = None
    for source, score, length in (block for file in files for block in file):
        if before is not None and before[:2] == (source, score):
            length += before[2]
        before = (source, score, length)
        largest[source] = max(length, largest.get(source, 0))
    return largest


def _begins(table: pa.Table, columns: list[str]) -> npt.NDArray[np.bool_]:
    """Rows that differ in one of ``columns`` from the row before; the first one does."""
    begins = np.zeros(table.num_rows, np.bool_)
    begins[:1] = True
    for name in columns:
        column = table[name].combine_chunks()
        if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
            column = column.dictionary_encode().indices
        begins[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return begins


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


def selection_limits(rollouts: Mapping[str, int], scope: str, fraction: float) -> dict[str, int]:
    """The last rank that a selection takes, by source: ``max(1, int(m * fraction))`` of m rollouts.

    ``rollouts`` gives the usable rollouts of each source.  With ``scope`` global m is all of them, and the
    limit is the same for each.  `UsageError` when the fraction is not in (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise UsageError(
            "a fraction in (0, 1]", str(fraction), "give --fraction as a share, 0.25 for a quarter"
        )
    if scope == "global":
        return dict.fromkeys(rollouts, _limit(sum(rollouts.values()), fraction))
    return {source: _limit(count, fraction) for source, count in rollouts.items()}


def _limit(rollouts: int, fraction: float) -> int:
    return max(1, int(rollouts * fraction))
