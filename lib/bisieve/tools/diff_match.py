"""The rollouts of an index, a source at a time, with what a comparison asks of each."""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisieve.index import Index
from bisieve.index_files import open_part
from bisieve.order import mixed
from bisieve.ranking import ranking_key

_READ = (
    "source",
    "rank",
    "rollout_id",
    "bis",
    "positive_fraction",
    "reliability",
    "num_steps",
    "scores",
    "spans",
)

ROWS = pa.schema(
    [
        ("rank", pa.int64()),
        ("rollout_id", pa.string()),
        ("bis", pa.float64()),
        ("key", pa.float64()),  # what the index's strategy ranks by
        ("scores", pa.uint64()),  # a hash of the steps' scores
        ("shard", pa.dictionary(pa.int32(), pa.string())),  # where its first record lies
        ("offset", pa.int64()),
    ]
)


def by_source(index: Index) -> Iterator[tuple[str, pa.Table]]:
    """Each source that has rollouts and its rows, of `ROWS`, by rank; sources by their names.

    `StorageError` where the index cannot be read, `IndexUnusableError` where it is damaged.
    """
    for source, parts in groupby(_parts(index), key=itemgetter(0)):
        yield source, pa.concat_tables([rows for _, rows in parts]).combine_chunks()


def _parts(index: Index) -> Iterator[tuple[str, pa.Table]]:
    strategy = index.manifest.parameters.strategy
    for file in index.files:
        with open_part(index.url, file) as stored:
            for group in range(stored.num_row_groups):
                rows = stored.read_row_group(group, columns=_READ, use_threads=False).combine_chunks()
                for source in pc.unique(rows["source"]).to_pylist():
                    yield source, _compact(rows.filter(pc.equal(rows["source"], source)), strategy)


def _compact(rows: pa.Table, strategy: str) -> pa.Table:
    rows = rows.combine_chunks()
    first = pc.list_element(rows["spans"], 0).combine_chunks()
    columns = {
        "rank": rows["rank"],
        "rollout_id": rows["rollout_id"],
        "bis": rows["bis"],
        "key": pa.array(ranking_key(rows, strategy)),
        "scores": pa.array(_hashed(rows["num_steps"].to_numpy(), rows["scores"].combine_chunks())),
        "shard": pc.struct_field(first, "shard").dictionary_encode(),
        "offset": pc.struct_field(first, "offset"),
    }
    return pa.table(columns, schema=ROWS)


def _hashed(num_steps: npt.NDArray[np.int32], scores: pa.Array) -> npt.NDArray[np.uint64]:
    """A hash of each rollout's list of scores, of their values and their places."""
    starts = np.cumsum(num_steps) - num_steps
    step = np.arange(num_steps.sum()) - np.repeat(starts, num_steps)
    values = scores.flatten().to_numpy() + 0.0  # one zero, not two
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        return np.add.reduceat(mixed(values.view(np.uint64) + mixed(step.astype(np.uint64))), starts)
