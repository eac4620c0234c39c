"""The changes as a Parquet file, written as they are found."""

from collections.abc import Iterable, Iterator

import pyarrow.parquet as pq

from bisieve.diff.compare import CHANGES, SourceDiff
from bisieve.storage import open_output


def written(diffs: Iterable[SourceDiff], url: str) -> Iterator[SourceDiff]:
    """``diffs`` as they are; when the last one is taken their changes stand at ``url``, of `CHANGES`."""
    with open_output(url) as file, pq.ParquetWriter(file, CHANGES, compression="zstd") as writer:
        for diff in diffs:
            writer.write_table(diff.changes)
            yield diff
