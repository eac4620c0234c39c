"""Scan a split of a shard: bytes in, Arrow batches of rollouts or steps out, no engine involved."""

from collections.abc import Iterator

import pyarrow as pa

from bisieve.io.file_names import is_parquet
from bisieve.scan.batches import ScanOptions
from bisieve.scan.parquet_rows import scan_rollout_rows, scan_step_rows
from bisieve.scan.rollouts import scan_rollouts
from bisieve.scan.steps import scan_steps
from bisieve.shards.listing import Split


def scan_rollout_split(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """The rollouts of ``split``, as batches of `schemas.SCORED`, in order of their places."""
    return (scan_rollout_rows if is_parquet(split.shard) else scan_rollouts)(split, options)


def scan_step_split(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """The steps of ``split``, as batches of `schemas.STEPS`, in order of their places."""
    return (scan_step_rows if is_parquet(split.shard) else scan_steps)(split, options)
