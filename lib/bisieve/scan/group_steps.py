"""Group steps by rollout: `schemas.STEPS` in, scored and rejected rollouts out (`schemas.SCORED`).

assemble_unsorted   sorts the rows of a partition ──▶ assemble
assemble            sorted batches ──▶ checks each rollout ──▶ batches.assembled_batch
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisieve import schemas
from bisieve.ranking.sort import Order, sorted_indices
from bisieve.records.model import (
    CONFLICTING_ROLLOUT,
    DUPLICATE_STEP,
    MISSING_STEP,
    NO_IMAGE,
    NO_QUESTION,
    NO_SOURCE,
)
from bisieve.scan.batches import ScanOptions, assembled_batch

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
