"""Brings the steps of each rollout together: sorted step rows in, scored and rejected rollouts out."""

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
_PER_STEP = ("mc_correct", "mc_total")  # one number a step there, one list a rollout here


def assemble_unsorted(steps: pa.Table, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """`schemas.STEPS` rows in any order to `schemas.SCORED`; records that name no rollout come out
    rejected."""
    named = pc.is_valid(steps["rollout_id"])
    rows = steps.filter(named)
    # An index that is unknown belongs to a step with a reason: its place does not matter.
    keys = rows.set_column(1, "step_index", pc.fill_null(rows["step_index"], -1))
    in_order = rows.take(sorted_indices(keys, _ORDER)).combine_chunks()
    yield from assemble(in_order.to_batches(_BATCH_ROWS), options)
    homeless = steps.filter(pc.invert(named))
    if homeless.num_rows:
        columns = [
            homeless[column.name].combine_chunks()
            if column.name in homeless.column_names and column.name not in _PER_STEP
            else pa.nulls(homeless.num_rows, column.type)
            for column in schemas.SCORED
        ]
        yield pa.record_batch(columns, schema=schemas.SCORED)


def assemble(batches: Iterable[pa.RecordBatch], options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """Batches of `schemas.STEPS`, ordered by (rollout_id, step_index, shard, offset), to `schemas.SCORED`.

    All rows of a rollout must be in the input.  Memory is bounded by a batch and the longest rollout.  A
    rollout is rejected for the first of: a step's own reason, `duplicate_step`, `missing_step`,
    `conflicting_rollout`, `no_source`, `no_image`, `no_question`; its span is then that of its first record.
    Without a source field a rollout belongs to the source of the shard that holds its first step.
    """
    held: list[pa.RecordBatch] = []  # rows of the rollout that the next batch may go on with
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
    """The rows, where each rollout begins (with the end behind), and why it is rejected (None: usable)."""
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
    for row in np.flatnonzero(~_nulls(rows["reason"]))[::-1]:  # backwards: the first one stays
        reasons[int(np.searchsorted(starts, row, side="right")) - 1] = rows["reason"][row].as_py()
    return rows, starts, reasons


def _conflicts(column: pa.ChunkedArray, first: npt.NDArray[np.int64]) -> Mask:
    """Rows that say something else than their rollout's first row; saying nothing is no conflict."""
    said = column.combine_chunks()
    return np.asarray(pc.fill_null(pc.not_equal(said, said.take(pa.array(first))), False))


def _nulls(column: pa.ChunkedArray) -> Mask:
    return np.asarray(column.combine_chunks().is_null())


def _any(rows: Mask, starts: npt.NDArray[np.int64]) -> Mask:
    return np.logical_or.reduceat(rows, starts[:-1])


def _mark(reasons: list[Any], where: Mask, reason: str) -> None:
    for rollout in np.flatnonzero(where):
        reasons[rollout] = reasons[rollout] or reason
