"""How scored rollouts are ordered: inside their source or over all, with ties broken by an explicit rule."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from bisieve.manifest import Parameters
from bisieve.sort.keys import Order, sorted_indices

TieBlock = tuple[str, float, int]  # source, score, rollouts

# Unique: no two rollouts begin at one place.
_BEST_FIRST: Order = (
    ("bis", "descending"),
    ("tie", "ascending"),
    ("shard", "ascending"),
    ("offset", "ascending"),
)
INDEX_ORDER: Order = (("source", "ascending"), ("rank", "ascending"))
REJECTS_ORDER: Order = (("shard", "ascending"), ("offset", "ascending"))


def ranking_order(parameters: Parameters) -> Order:
    """Best first, inside the source or over all."""
    return _BEST_FIRST if parameters.scope == "global" else (("source", "ascending"), *_BEST_FIRST)


def with_tie_key(table: pa.Table, parameters: Parameters) -> pa.Table:
    """``table`` with the column ``tie``, int64, that orders rollouts of equal score.

    0 where their place decides, and with ``ties=spread``, whose key needs all rollouts of a question.
    """
    tie = np.zeros(table.num_rows, np.int64)
    if parameters.ties == "hash":
        seed = parameters.tie_seed
        hashes = [xxhash.xxh3_64_intdigest(name.encode(), seed) for name in table["rollout_id"].to_pylist()]
        tie = np.array(hashes, np.uint64).view(np.int64)
    return table.append_column("tie", pa.array(tie))


def with_occurrence(table: pa.Table, parameters: Parameters) -> pa.Table:
    """``table`` with ``tie`` = 1 for the best rollout of its question, 2 for the second best, …

    All rollouts of its questions must be in ``table``.
    """
    group: Order = (("question_id", "ascending"),)
    if parameters.scope == "source":
        group = (("source", "ascending"), *group)
    table = table.take(sorted_indices(table, (*group, *_BEST_FIRST)))
    place = np.arange(table.num_rows)
    begins = np.maximum.accumulate(np.where(_begins(table, [name for name, _ in group]), place, 0))
    return table.set_column(table.column_names.index("tie"), "tie", pa.array(place - begins + 1))


def telling_tie_blocks(table: pa.Table) -> list[TieBlock]:
    """Blocks of equal source and score: the first, the last and the largest of each source, in order."""
    starts = np.flatnonzero(_begins(table, ["source", "bis"]))
    lengths = np.diff([*starts, table.num_rows])
    sources = table["source"].take(starts).to_numpy()
    largest: dict[str, int] = {}
    for block, source in enumerate(sources):
        if lengths[block] > lengths[largest.setdefault(source, block)]:
            largest[source] = block
    telling = sorted({0, len(starts) - 1, *largest.values()})
    scores = table["bis"].take(starts[telling]).to_pylist()
    return [
        (sources[block], score, int(lengths[block])) for block, score in zip(telling, scores, strict=True)
    ]


def largest_tie_blocks(files: Iterable[Sequence[TieBlock]]) -> dict[str, int]:
    """The most rollouts of each source that share a score, from the telling blocks of all files in order."""
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
        begins[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return begins
