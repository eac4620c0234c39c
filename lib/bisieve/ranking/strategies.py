"""Order of scored rollouts: by a strategy (`ranking_key`), per source or over all, with a rule for ties.

For ``ties=spread``, rows sorted by question are cut into pieces, and a question may extend over several.
Each piece numbers its own rollouts (`with_occurrence`) and describes its first and last question (`ends`);
then the count of its first question in earlier pieces (`counted_before`) is added (`continued`).
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
from bisieve.records.options import SHUFFLED, STRATEGIES, Parameters, parse_fraction

Key = npt.NDArray[np.float64]
TieBlock = tuple[str, float, int]  # source, key, number of rollouts with that key

# Unique, since no two rollouts begin at the same place.
_BEST_FIRST: Order = (
    ("key", "descending"),
    ("tie", "ascending"),
    ("shard", "ascending"),
    ("offset", "ascending"),
)
INDEX_ORDER: Order = (("source", "ascending"), ("rank", "ascending"))
REJECTS_ORDER: Order = (("shard", "ascending"), ("offset", "ascending"))

Question = tuple[str, ...]  # values of the columns of `question_group`


def ranking_order(parameters: Parameters) -> Order:
    """Return the order of ranks: best first, inside each source or over all as the scope says."""
    return _BEST_FIRST if parameters.scope == "global" else (("source", "ascending"), *_BEST_FIRST)


def with_keys(table: pa.Table, parameters: Parameters) -> pa.Table:
    """Add the columns ``key`` (float64, greatest first) and ``tie`` (int64, smallest first) to ``table``.

    ``tie`` orders rollouts of equal key.  It is a seeded hash with ``ties=hash`` and for strategies of random
    order.  Else it is 0: with ``ties=file`` shard and offset decide, and for ``ties=spread``, which needs all
    rollouts of a question, `with_occurrence` sets it later.
    """
    tie = np.zeros(table.num_rows, np.int64)
    if parameters.ties == "hash" or parameters.strategy in SHUFFLED:
        seed = parameters.seed
        hashes = [xxhash.xxh3_64_intdigest(name.encode(), seed) for name in table["rollout_id"].to_pylist()]
        tie = np.array(hashes, np.uint64).view(np.int64)
    key = pa.array(ranking_key(table, parameters.strategy))
    return table.append_column("key", key).append_column("tie", pa.array(tie))


def ranking_key(table: pa.Table, strategy: str) -> Key:
    """Return the number that a strategy ranks by, the greatest first, float64 [rows].

    The strategies are those of the paper's ablation (§5.2); details that it does not give are our choice.
    """
    match strategy:
        case "bis":
            return table["bis"].to_numpy()  # type: ignore[no-any-return]
        case "mixed":  # p(1-p) alone; rollouts without a mixture (0) come last, in random order
            p: Key = table["positive_fraction"].to_numpy()
            return p * (1.0 - p)
        case "reliable":
            return table["reliability"].to_numpy()  # type: ignore[no-any-return]
        case "low_mc":
            return -_mean_scores(table)
        case "random" | "all":  # ties alone order the rollouts
            return np.zeros(table.num_rows)
    raise UsageError(f"one of {', '.join(STRATEGIES)} as strategy", strategy, "correct its name")


def _mean_scores(table: pa.Table) -> Key:
    steps = table["num_steps"].to_numpy()
    owner = np.repeat(np.arange(len(steps)), steps)
    scores = table["scores"].combine_chunks().flatten().to_numpy()
    return np.asarray(np.bincount(owner, weights=scores, minlength=len(steps)) / steps, np.float64)


def question_group(parameters: Parameters) -> list[str]:
    """Return the columns that identify a question; with scope "source" each source has its own questions."""
    return ["question_id"] if parameters.scope == "global" else ["source", "question_id"]


def question_order(parameters: Parameters) -> Order:
    """Return the order by question, and inside a question best first."""
    return (*((name, "ascending") for name in question_group(parameters)), *_BEST_FIRST)


def with_occurrence(table: pa.Table, parameters: Parameters) -> pa.Table:
    """Sort ``table`` by `question_order` and number the rollouts of each question in ``tie``, from 1.

    Only rollouts in ``table`` are counted; `continued` adds those of earlier pieces.
    """
    table = table.take(sorted_indices(table, question_order(parameters)))
    tie = pa.array(places_in(table, question_group(parameters)))
    return table.set_column(table.column_names.index("tie"), "tie", tie)


def places_in(table: pa.Table, columns: list[str]) -> npt.NDArray[np.int64]:
    """Return the position, from 1, of each row among adjacent rows with equal ``columns``, int64 [rows]."""
    place = np.arange(table.num_rows)
    return place - np.maximum.accumulate(np.where(_begins(table, columns), place, 0)) + 1


def telling_tie_blocks(table: pa.Table) -> list[TieBlock]:
    """Return blocks of rows with equal source and key: the first, the last, and each source's largest.

    These are enough for `largest_tie_blocks`, since only the first and the last block of a file can extend
    into its neighbours.

    Args:
        table: Rows of one ranked file, in order, with ``key``; at least one.
    """
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
    """Return, by source, the size of its largest block of equal keys.

    Args:
        files: What `telling_tie_blocks` returned for each ranked file, in order.
    """
    largest: dict[str, int] = {}
    before: TieBlock | None = None
    for source, score, length in (block for file in files for block in file):
        if before is not None and before[:2] == (source, score):
            length += before[2]
        before = (source, score, length)
        largest[source] = max(length, largest.get(source, 0))
    return largest


def _begins(table: pa.Table, columns: list[str]) -> npt.NDArray[np.bool_]:
    """Return a mask of rows that differ from the row before in one of ``columns``; true for the first row."""
    begins = np.zeros(table.num_rows, np.bool_)
    begins[:1] = True
    for name in columns:
        column = table[name].combine_chunks()
        if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
            column = column.dictionary_encode().indices
        begins[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return begins


class Ends(NamedTuple):
    """The first and last question of a piece, by which later pieces continue its count."""

    first: Question
    last: Question
    rollouts: int  # of the last question, in this piece alone


def ends(rows: pa.Table, parameters: Parameters) -> Ends:
    """Return the `Ends` of a piece that `with_occurrence` returned, of at least one row."""
    first, last = (rows.slice(place, 1).to_pylist()[0] for place in (0, rows.num_rows - 1))
    names = question_group(parameters)
    return Ends(
        tuple(first[name] for name in names), tuple(last[name] for name in names), rollouts=last["tie"]
    )


def counted_before(pieces: Sequence[Ends]) -> list[int]:
    """Return, for each piece in order, how many rollouts of its first question are in earlier pieces."""
    before: list[int] = []
    for place, piece in enumerate(pieces):
        previous = pieces[place - 1] if place else None
        if previous is None or previous.last != piece.first:
            before.append(0)
        else:
            before.append(previous.rollouts + (before[-1] if previous.first == previous.last else 0))
    return before


def continued(rows: pa.Table, parameters: Parameters, before: int) -> pa.Table:
    """Return a piece with ``before`` added to the ``tie`` of the rows of its first question."""
    if not before:
        return rows
    mine = np.ones(rows.num_rows, np.bool_)
    for name in question_group(parameters):
        codes = rows[name].combine_chunks().dictionary_encode().indices.to_numpy()
        mine &= codes == codes[0]
    tie = pa.array(rows["tie"].to_numpy() + before * mine)
    return rows.set_column(rows.column_names.index("tie"), "tie", tie)


def selection_limits(rollouts: Mapping[str, int], scope: str, fraction: float) -> dict[str, int]:
    """Return, by source, the last rank that a selection takes: ``max(1, int(m * fraction))`` (paper §4).

    Args:
        rollouts: Number of usable rollouts by source.
        scope: With "source" m is the number of the source; with "global" it is that of all sources, and
            their limits are equal.
        fraction: Share of rollouts to select.

    Raises:
        UsageError: ``fraction`` is not in (0, 1].
    """
    parse_fraction(fraction)
    if scope == "global":
        return dict.fromkeys(rollouts, _limit(sum(rollouts.values()), fraction))
    return {source: _limit(count, fraction) for source, count in rollouts.items()}


def _limit(rollouts: int, fraction: float) -> int:
    return max(1, int(rollouts * fraction))
