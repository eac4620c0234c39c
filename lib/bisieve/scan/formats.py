"""Which scan a split gets: that of lines, or that of rows."""

from collections.abc import Iterator

import pyarrow as pa

from bisieve.scan.options import ScanOptions
from bisieve.scan.parquet import scan_rollout_rows, scan_step_rows
from bisieve.scan.rollouts import scan_rollouts
from bisieve.scan.steps import scan_steps
from bisieve.shards import Split, is_parquet


def scan_rollout_split(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """The rollouts of ``split``, as batches of `schema.SCORED`, in order of their places."""
    return (scan_rollout_rows if is_parquet(split.shard) else scan_rollouts)(split, options)


def scan_step_split(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """The steps of ``split``, as batches of `schema.STEPS`, in order of their places."""
    return (scan_step_rows if is_parquet(split.shard) else scan_steps)(split, options)
