"""Partition steps by rollout, and gather one partition of any size in bounded memory.

scanned batches ──parted_by_rollout──▶ pieces (partition, Arrow stream) ──shuffle──▶ gathered:
    pieces ──▶ one table                                            if they are at most `HELD_BYTES`
    pieces ──▶ files in a temporary folder, by rollout ──▶ a table a file             if they are more
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

# Grouping a table of n bytes takes about 5 n of memory (its pieces, the filtered, sorted and combined rows,
# and the rollouts made of them), besides the 150 MB of a worker with its imports: with 48 MiB it stays below
# 400 MB.
HELD_BYTES = 48 * 2**20
# 64 files of 48 MiB hold 3 GiB of rows; a partition of `PART_TEXT` has 30 to 300 MiB of rows.
FILES = 64
_SEED = 1  # not 0: that hash chose the partition, so it would spread the rollouts unevenly over the files

PART_TEXT = 64 * 2**20  # bytes of uncompressed text whose steps one task groups
_COMPRESSED = 10  # bytes of text per byte of a compressed or Parquet shard, about

PART_BYTES = 16 * 2**20  # bytes of rows that are partitioned at once


def partitions(stored: int, stored_compressed: int, at_least: int) -> int:
    """Return the number of partitions in which steps are grouped, about one per `PART_TEXT` of text.

    Args:
        stored: Bytes of plain JSONL shards.
        stored_compressed: Bytes of compressed and Parquet shards.
        at_least: The smallest number to return.
    """
    text = stored + _COMPRESSED * stored_compressed
    return max(at_least, -(-text // PART_TEXT))


def gathered(pieces: Iterable[bytes], scratch: str | None = None) -> Iterator[pa.Table]:
    """Yield tables with the rows of all pieces of a partition; all steps of a rollout are in one table.

    Memory holds about `HELD_BYTES`, or the longest rollout if that is more.  A larger partition is written to
    files of a temporary folder, which is removed at the end.

    Args:
        pieces: Arrow streams of `schemas.STEPS`.
        scratch: Where the temporary folder is made; None: SPARK_LOCAL_DIRS, or the system's default.
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
    """Return the first folder of SPARK_LOCAL_DIRS; None if it is not set."""
    return os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0] or None


def parted_by_rollout(
    batches: Iterable[pa.RecordBatch], parts: int, seed: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Partition rows of `schemas.STEPS` by a hash of their rollout id.

    Args:
        batches: Rows of `schemas.STEPS`.
        parts: Number of partitions.
        seed: Seed of the hash.

    Yields:
        Pairs (partition, from 0; an Arrow stream of some of its rows).  A rollout is always in the same
        partition.  Rows with a null ``rollout_id`` are spread over all partitions.
    """
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
    # Records without a rollout id can be very many, so they are spread over all partitions.
    part = rows["offset"].to_numpy() % parts
    named = ~np.asarray(names.indices.is_null())
    part[named] = np.array(hashes, np.int64)[names.indices.drop_null().to_numpy()]
    yield from by_part(rows, part, parts)


def by_part(rows: pa.Table, part: npt.NDArray[np.int64], parts: int) -> Iterator[tuple[int, bytes]]:
    """Yield (part, Arrow stream of its rows) for each part that has rows, in order.

    Args:
        rows: The rows to divide.
        part: The part of each row, from 0 to ``parts - 1``, int64 [rows].
        parts: Number of parts.
    """
    small = part.astype(np.uint16) if parts <= 2**16 else part  # numpy sorts 16-bit integers by radix
    order = np.argsort(small, kind="stable")
    starts = np.searchsorted(part[order], np.arange(parts + 1))
    rows = rows.take(order)
    for number in np.flatnonzero(np.diff(starts)).tolist():
        yield number, to_bytes(rows.slice(starts[number], starts[number + 1] - starts[number]))
