"""Group steps by rollout: batches of `schemas.STEPS` in, rollouts (`schemas.SCORED`) out.

scanned batches ──parted_by_rollout──▶ pieces (partition, Arrow stream) ──shuffle──▶ gathered:
    pieces ──▶ one table                                            if they are at most `HELD_BYTES`
    pieces ──▶ files in a temporary folder, by rollout ──▶ a table a file             if they are more
table ──assemble_unsorted: sort──▶ assemble: check each rollout ──▶ batches.assembled_batch

So a partition of any size is grouped in bounded memory.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from bisieve import schemas
from bisieve.ranking.sort import Order, from_bytes, sorted_indices, to_bytes
from bisieve.records.model import (
    CONFLICTING_ROLLOUT,
    DUPLICATE_STEP,
    MISSING_STEP,
    NO_IMAGE,
    NO_QUESTION,
    NO_SOURCE,
)
from bisieve.scan.batches import ScanOptions, assembled_batch

# Grouping a table of n bytes takes about 5 n of memory (its pieces, the filtered, sorted and combined rows,
# and the rollouts made of them), besides the 150 MB of a worker with its imports: with 48 MiB it stays below
# 400 MB.
HELD_BYTES = 48 * 2**20
# 64 files of 48 MiB hold 3 GiB of rows; a partition of `scan_tasks.PART_TEXT` has 30 to 300 MiB of rows.
FILES = 64
_SEED = 1  # not 0: that hash chose the partition, so it would spread the rollouts unevenly over the files

PART_BYTES = 16 * 2**20  # bytes of rows that are partitioned at once


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


Mask = npt.NDArray[np.bool_]


_ORDER: Order = (
    ("rollout_id", "ascending"),
    ("step_index", "ascending"),
    ("shard", "ascending"),
    ("offset", "ascending"),
)
_BATCH_ROWS = 2**16
_PER_STEP = ("mc_correct", "mc_total")  # a number per row in `schemas.STEPS`, a list in `schemas.SCORED`


def assemble_unsorted(steps: pa.Table, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """Yield the rollouts of a table of steps in any order, as batches of `schemas.SCORED`.

    Args:
        steps: Rows of `schemas.STEPS` with all steps of each rollout.  Rows with a null ``rollout_id`` come
            out last, each as a reject of its own.
        options: Alpha and threshold of the score, and how a shard names its source.
    """
    named = pc.is_valid(steps["rollout_id"])
    rows = steps.filter(named)
    # A step without an index has a reason to reject its rollout, so its position does not matter.
    keys = rows.set_column(1, "step_index", pc.fill_null(rows["step_index"], -1))
    in_order = rows.take(sorted_indices(keys, _ORDER)).combine_chunks()
    yield from assemble(in_order.to_batches(_BATCH_ROWS), options)
    without_id = steps.filter(pc.invert(named))
    if without_id.num_rows:
        columns = [
            without_id[column.name].combine_chunks()
            if column.name in without_id.column_names and column.name not in _PER_STEP
            else pa.nulls(without_id.num_rows, column.type)
            for column in schemas.SCORED
        ]
        yield pa.record_batch(columns, schema=schemas.SCORED)


def assemble(batches: Iterable[pa.RecordBatch], options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """Yield the rollouts of sorted steps, scored or rejected, as batches of `schemas.SCORED`.

    A rollout is rejected for the first of: the reason of one of its steps, `duplicate_step`, `missing_step`
    (indices are not 0, 1, …), `conflicting_rollout`, `no_source`, `no_image`, `no_question`.  Its place
    (shard, offset) is that of its first record.  Without a source field it belongs to the source of the shard
    that holds its first step.  Memory is bounded by a batch and the longest rollout.

    Args:
        batches: Rows of `schemas.STEPS`, ordered by (rollout_id, step_index, shard, offset), with all steps
            of each rollout.
        options: Alpha and threshold of the score, and how a shard names its source.
    """
    held: list[pa.RecordBatch] = []  # rows of the last rollout, which may continue in the next batch
    for batch in batches:
        if not batch.num_rows:
            continue
        last = _last_rollout_begins(batch)
        ended = [*held, batch.slice(0, last)] if last else held
        if last or (held and held[-1]["rollout_id"][-1] != batch["rollout_id"][0]):
            yield assembled_batch(*_checked(ended, options), options)
            held = []
        held.append(batch.slice(last))
    if held:
        yield assembled_batch(*_checked(held, options), options)


def _last_rollout_begins(batch: pa.RecordBatch) -> int:
    ends = pc.run_end_encode(batch["rollout_id"]).run_ends
    return ends[-2].as_py() if len(ends) > 1 else 0


def _checked(
    held: list[pa.RecordBatch], options: ScanOptions
) -> tuple[pa.Table, npt.NDArray[np.int64], list[str | None]]:
    """Find out which rollouts are usable.

    Returns:
        The rows as one table, the row at which each rollout begins and the number of rows, [rollouts + 1],
        and for each rollout the reason of its rejection, None if it is usable.
    """
    rows = pa.Table.from_batches(held).combine_chunks()
    ends = pc.run_end_encode(rows["rollout_id"].chunk(0)).run_ends.to_numpy().astype(np.int64)
    starts = np.concatenate([[0], ends])
    first = np.repeat(starts[:-1], np.diff(starts))  # for each row, its rollout's first row
    place = np.arange(rows.num_rows) - first
    index = rows["step_index"].fill_null(-1).to_numpy()
    again = np.zeros(rows.num_rows, dtype=bool)
    again[1:] = (index[1:] == index[:-1]) & (first[1:] == first[:-1])
    named = ["image_id", "prompt_id", *(["source"] if options.reading.source_field is not None else [])]
    shared = [_conflicts(rows[name], first) for name in named]
    head = starts[:-1]
    reasons: list[str | None] = [None] * len(head)
    _mark(reasons, _any(again, starts), DUPLICATE_STEP)
    _mark(reasons, _any(index != place, starts), MISSING_STEP)
    _mark(reasons, _any(np.logical_or.reduce(shared), starts), CONFLICTING_ROLLOUT)
    _mark(reasons, _nulls(rows["source"])[head], NO_SOURCE)
    _mark(reasons, _nulls(rows["image_id"])[head], NO_IMAGE)
    _mark(reasons, _nulls(rows["prompt_id"])[head], NO_QUESTION)
    for row in np.flatnonzero(~_nulls(rows["reason"]))[::-1]:  # backwards, so that the first one wins
        reasons[int(np.searchsorted(starts, row, side="right")) - 1] = rows["reason"][row].as_py()
    return rows, starts, reasons


def _conflicts(column: pa.ChunkedArray, first: npt.NDArray[np.int64]) -> Mask:
    """Return a mask of rows whose value differs from their rollout's first row; null never differs."""
    said = column.combine_chunks()
    return np.asarray(pc.fill_null(pc.not_equal(said, said.take(pa.array(first))), False))


def _nulls(column: pa.ChunkedArray) -> Mask:
    return np.asarray(column.combine_chunks().is_null())


def _any(rows: Mask, starts: npt.NDArray[np.int64]) -> Mask:
    return np.logical_or.reduceat(rows, starts[:-1])


def _mark(reasons: list[Any], where: Mask, reason: str) -> None:
    for rollout in np.flatnonzero(where):
        reasons[rollout] = reasons[rollout] or reason
