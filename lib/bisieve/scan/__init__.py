"""Scan a split of a shard: bytes in, Arrow batches of rollouts or steps out.  Independent of the engine.

rollouts layout   scan_rollout_split ──▶ `schemas.SCORED` ──chunks.chunked──▶ sorted runs and counts
steps layout      scan_step_split ──▶ `schemas.STEPS` ──group_steps──▶ `schemas.SCORED` ──▶ …
older index       reuse: which of its rollouts are kept, and which steps are reread
"""

from collections.abc import Iterator

import pyarrow as pa

from bisieve.io.urls import is_parquet
from bisieve.scan.batches import ScanOptions
from bisieve.scan.parquet_rows import scan_rollout_rows, scan_step_rows
from bisieve.scan.rollouts import scan_rollouts
from bisieve.scan.steps import scan_steps
from bisieve.shards.listing import Split


def scan_rollout_split(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """Return the rollouts of ``split``, scored or rejected, as batches of `schemas.SCORED`.

    Usable rollouts are in file order, and so are rejected ones, each in batches of their own.

    Raises:
        CorpusError: The shard is damaged or of another format.
        StorageError: It cannot be read.
    """
    return (scan_rollout_rows if is_parquet(split.shard) else scan_rollouts)(split, options)


def scan_step_split(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """Return the steps of ``split``, as batches of `schemas.STEPS`, in no guaranteed order.

    Raises:
        CorpusError: The shard is damaged or of another format.
        StorageError: It cannot be read.
    """
    return (scan_step_rows if is_parquet(split.shard) else scan_steps)(split, options)
