"""Scans a split of a Parquet shard: rows in, the same out as of lines that hold the same records.

Rows are judged by column; only those in doubt, as few are, one by one by the checks that lines go through.
A span is (shard, number of the row, 1).
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from bisieve import records, schema
from bisieve.decoding import record_converter
from bisieve.diagnosis import Refusal, diagnose_record
from bisieve.parquet import read_split
from bisieve.scan.columns import doubtful, usable_columns
from bisieve.scan.options import ScanOptions
from bisieve.scan.rollouts import Rejects, verdict
from bisieve.scan.scored import rejected_batch, scored_batch
from bisieve.scan.steps import record_row
from bisieve.shards import Split

_NO_TEXT = Refusal(records.BAD_JSON)


def scan_rollout_rows(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """As `rollouts.scan_rollouts`, of the row groups that begin in ``split``."""
    reading = options.reading
    default = reading.source_of(split.shard)
    convert = record_converter("rollouts", reading)
    for first_row, rows in read_split(split, "rollouts", reading):
        keep = ~doubtful(rows)
        rejects = Rejects()
        doubts = np.flatnonzero(~keep)
        for place, row in zip(doubts.tolist(), _records(rows.take(pa.array(doubts))), strict=True):
            try:
                reason, source = verdict(convert(row), reading, default)
            except msgspec.ValidationError:
                refusal = diagnose_record(row, "rollouts", reading) if row else _NO_TEXT
                reason, source = refusal.reason, refusal.source or default
            if reason is None:
                keep[place] = True
            else:
                rejects.add(first_row + place, 1, source, reason)
        if keep.any():
            usable = usable_columns(rows.filter(pa.array(keep)), first_row + np.flatnonzero(keep), default)
            yield scored_batch(usable, split.shard, options)
        if rejects.offset:
            yield rejected_batch(rejects, split.shard)


def scan_step_rows(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """As `steps.scan_steps`, of the row groups that begin in ``split``."""
    reading = options.reading
    default = reading.source_of(split.shard)
    convert = record_converter("steps", reading)
    for first_row, rows in read_split(split, "steps", reading):
        found = []
        for place, row in enumerate(_records(rows)):
            step = record_row(row, convert, reading, default)
            found.append({**step, "shard": split.shard, "offset": first_row + place, "length": 1})
        if found:
            yield pa.RecordBatch.from_pylist(found, schema=schema.STEPS)


def _records(rows: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as the records that they are; as an empty one, which no struct takes, where text is no UTF-8."""
    try:
        return list(rows.to_pylist())
    except UnicodeDecodeError:
        if rows.num_rows == 1:
            return [{}]
        return [record for place in range(rows.num_rows) for record in _records(rows.slice(place, 1))]
