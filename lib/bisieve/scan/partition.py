"""Partition steps by rollout, and gather one partition of any size in bounded memory.

pieces ──▶ held in memory ──▶ one table                         while they are few
       └─▶ spread by rollout over files of a temporary folder ──▶ a table a file
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from bisieve import schemas
from bisieve.ranking.sort import from_bytes, to_bytes

# A table of n bytes is assembled in about 5 n (its pieces, filtered, sorted, combined, and the rollouts made
# of it) beside the 150 MB of a worker with its imports: 48 MiB keep it below 400 MB.
HELD_BYTES = 48 * 2**20
# 64 files of 48 MiB are 3 GiB of rows; the 64 MiB of text of a partition make 30 to 300 MiB of them.
FILES = 64
_SEED = 1  # the hash of seed 0 has chosen the partition, and would choose one file for all of it

PART_TEXT = 64 * 2**20  # bytes of text whose steps are brought together by one task
_COMPRESSED = 10  # bytes of text a byte of a compressed shard, about

PART_BYTES = 16 * 2**20  # of rows that are parted at once


def partitions(stored: int, stored_compressed: int, at_least: int) -> int:
    """How many parts the steps of so many bytes of shards are brought together in."""
    text = stored + _COMPRESSED * stored_compressed
    return max(at_least, -(-text // PART_TEXT))


def gathered(pieces: Iterable[bytes], scratch: str | None = None) -> Iterator[pa.Table]:
    """The rows of pieces (Arrow tables of `schemas.STEPS`), all steps of a rollout in one table.

    Holds about `HELD_BYTES` at once, or the longest rollout where that is more.  What is more waits in the
    folder ``scratch``; without one where Spark, or else the system, has its temporary files.
    """
    held: list[pa.Table] = []
    size = 0
    tables = map(from_bytes, pieces)
    for table in tables:
        held.append(table)
        size += table.nbytes
        if size > HELD_BYTES:
            yield from _spilled(chain((held.pop() for _ in range(len(held))), tables), scratch)
            return
    if held:
        yield pa.concat_tables(held)


def _spilled(tables: Iterable[pa.Table], scratch: str | None) -> Iterator[pa.Table]:
    batches = (batch for table in tables for batch in table.to_batches())
    with tempfile.TemporaryDirectory(prefix="bisieve-steps-", dir=scratch or _local_folder()) as folder:
        with ExitStack() as closing:
            files = {}
            for number, rows in parted_by_rollout(batches, FILES, _SEED):
                if number not in files:
                    path = os.path.join(folder, str(number))
                    files[number] = closing.enter_context(pa.ipc.new_stream(path, schemas.STEPS))
                files[number].write_table(from_bytes(rows))
        for number in sorted(files):
            with pa.OSFile(os.path.join(folder, str(number))) as file:
                yield pa.ipc.open_stream(file).read_all()


def _local_folder() -> str | None:
    """Where Spark wants its own temporary files; None: where the system does."""
    return os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0] or None


def parted_by_rollout(
    batches: Iterable[pa.RecordBatch], parts: int, seed: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Rows of `schemas.STEPS`, all steps of a rollout in the same one of ``parts``."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= PART_BYTES:
            yield from _parted(held, parts, seed)
            held, size = [], 0
    yield from _parted(held, parts, seed)


def _parted(batches: list[pa.RecordBatch], parts: int, seed: int) -> Iterator[tuple[int, bytes]]:
    if not batches:
        return
    rows = pa.Table.from_batches(batches).combine_chunks()
    names = rows["rollout_id"].combine_chunks().dictionary_encode()
    hashes = [xxhash.xxh3_64_intdigest(name.encode(), seed) % parts for name in names.dictionary.to_pylist()]
    # Records that name no rollout may lie anywhere, so they lie everywhere: there can be very many.
    part = rows["offset"].to_numpy() % parts
    named = ~np.asarray(names.indices.is_null())
    part[named] = np.array(hashes, np.int64)[names.indices.drop_null().to_numpy()]
    yield from by_part(rows, part, parts)


def by_part(rows: pa.Table, part: npt.NDArray[np.int64], parts: int) -> Iterator[tuple[int, bytes]]:
    """The ``rows`` of each part, ``part`` [rows] from 0 to ``parts``, as bytes; none of one that has none."""
    small = part.astype(np.uint16) if parts <= 2**16 else part  # numpy sorts what has 16 bits by radix
    order = np.argsort(small, kind="stable")
    starts = np.searchsorted(part[order], np.arange(parts + 1))
    rows = rows.take(order)
    for number in np.flatnonzero(np.diff(starts)).tolist():
        yield number, to_bytes(rows.slice(starts[number], starts[number + 1] - starts[number]))
