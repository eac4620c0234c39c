"""Splits rows of steps into parts, all steps of a rollout in the same one."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from bisieve.sort.runs import to_bytes

PART_BYTES = 16 * 2**20  # of rows that are parted at once


def parted_by_rollout(
    batches: Iterable[pa.RecordBatch], parts: int, seed: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Rows of `schema.STEPS`, all steps of a rollout in the same one of ``parts``."""
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
