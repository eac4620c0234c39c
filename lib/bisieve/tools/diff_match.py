"""Match the rollouts of two indexes, one source at a time.

`by_source` reads an index as compact rows (schema `ROWS`), `partners` pairs the rows of two such tables.
"""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisieve._hash import splitmix64
from bisieve.index.reader import Index, open_part
from bisieve.ranking.order import ranking_key
from bisieve.ranking.sort import Order, sorted_indices
from bisieve.ranking.strategies import strategy_of
from bisieve.records.options import Parameters

_READ = (
    "source",
    "rank",
    "rollout_id",
    "bis",
    "positive_fraction",
    "reliability",
    "num_steps",
    "num_positive",
    "scores",
    "spans",
)

ROWS = pa.schema(
    [
        ("rank", pa.int64()),
        ("rollout_id", pa.string()),
        ("bis", pa.float64()),
        ("key", pa.float64()),  # the ranking key of the index's strategy, greatest first
        ("scores", pa.uint64()),  # a hash of the steps' scores
        ("shard", pa.dictionary(pa.int32(), pa.string())),  # of its first record
        ("offset", pa.int64()),
    ]
)

Places = npt.NDArray[np.int64]  # row numbers

NO_PARTNER = -1  # the row number of a missing partner
_BY_PLACE: Order = (("id", "ascending"), ("shard", "ascending"), ("offset", "ascending"))


def by_source(index: Index) -> Iterator[tuple[str, pa.Table]]:
    """Yield each source of an index that has rollouts, with its rows (schema `ROWS`) by rank.

    Sources are in order of name; one source is in memory at a time.

    Raises:
        StorageError: A file of the index cannot be read.
        IndexUnusableError: A file of the index is missing or damaged.
    """
    for source, parts in groupby(_parts(index), key=itemgetter(0)):
        yield source, pa.concat_tables([rows for _, rows in parts]).combine_chunks()


def _parts(index: Index) -> Iterator[tuple[str, pa.Table]]:
    parameters = index.manifest.parameters
    columns = [*_READ, *strategy_of(parameters.strategy).columns]
    for file in index.files:
        with open_part(index.url, file) as stored:
            for group in range(stored.num_row_groups):
                rows = stored.read_row_group(group, columns=columns, use_threads=False).combine_chunks()
                for source in pc.unique(rows["source"]).to_pylist():
                    yield source, _compact(rows.filter(pc.equal(rows["source"], source)), parameters)


def _compact(rows: pa.Table, parameters: Parameters) -> pa.Table:
    rows = rows.combine_chunks()
    first = pc.list_element(rows["spans"], 0).combine_chunks()
    columns = {
        "rank": rows["rank"],
        "rollout_id": rows["rollout_id"],
        "bis": rows["bis"],
        "key": pa.array(ranking_key(rows, parameters)),
        "scores": pa.array(_hashed(rows["num_steps"].to_numpy(), rows["scores"].combine_chunks())),
        "shard": pc.struct_field(first, "shard").dictionary_encode(),
        "offset": pc.struct_field(first, "offset"),
    }
    return pa.table(columns, schema=ROWS)


def _hashed(num_steps: npt.NDArray[np.int32], scores: pa.Array) -> npt.NDArray[np.uint64]:
    """Return a hash of each rollout's scores, which depends on their values and their order."""
    starts = np.cumsum(num_steps) - num_steps
    step = np.arange(num_steps.sum()) - np.repeat(starts, num_steps)
    values = scores.flatten().to_numpy() + 0.0  # turns -0.0 into 0.0, so that equal scores have equal bits
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is intended
        return np.add.reduceat(
            splitmix64(values.view(np.uint64) + splitmix64(step.astype(np.uint64))), starts
        )


def partners(a: pa.Table, b: pa.Table) -> tuple[Places, Places]:
    """Match the rows of two tables (schema `ROWS`) by ``rollout_id``.

    Where an id occurs several times, occurrences are paired in the order of (shard, offset): the first with
    the first, the second with the second, and so on.

    Returns:
        For each row of ``a`` its row number in ``b``, and for each row of ``b`` its row number in ``a``;
        `NO_PARTNER` for a row without a partner.
    """
    ids = pa.chunked_array([*a["rollout_id"].chunks, *b["rollout_id"].chunks], pa.string())
    codes = ids.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    codes_a, codes_b = np.split(codes, [a.num_rows])
    copies_a, copies_b = _copies(a, codes_a), _copies(b, codes_b)
    most = 1 + max(copies_a.max(initial=0), copies_b.max(initial=0))
    _, in_a, in_b = np.intersect1d(
        codes_a * most + copies_a, codes_b * most + copies_b, assume_unique=True, return_indices=True
    )
    of_a, of_b = np.full(a.num_rows, NO_PARTNER), np.full(b.num_rows, NO_PARTNER)
    of_a[in_a], of_b[in_b] = in_b, in_a
    return of_a, of_b


def _copies(rows: pa.Table, codes: Places) -> Places:
    """Return for each row its occurrence number, from 0, among the rows with its id by (shard, offset)."""
    copies = np.zeros(len(codes), np.int64)
    if not len(codes):
        return copies
    several = np.flatnonzero(np.bincount(codes)[codes] > 1)
    of_several = rows.select(["shard", "offset"]).take(several)
    placed = pa.table({
        "id": codes[several],
        "shard": of_several["shard"].cast(pa.string()),
        "offset": of_several["offset"],
    })  # fmt: skip
    several = several[sorted_indices(placed, _BY_PLACE)]
    place = np.arange(len(several))
    begins = np.diff(codes[several], prepend=NO_PARTNER) != 0
    copies[several] = place - np.maximum.accumulate(np.where(begins, place, 0))
    return copies
