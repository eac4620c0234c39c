"""Looks at the first records of more shards than the driver should open by itself."""

from collections.abc import Iterable, Iterator, Sequence

from pyspark import SparkContext

from bisieve.layouts import Found, find_layouts
from bisieve.reading import Layout, Reading
from bisieve.storage import FileInfo

SHARDS_A_TASK = 256


def layouts_on_spark(context: SparkContext, shards: Sequence[FileInfo], reading: Reading) -> Found:
    """As `layouts.find_layouts`, some hundred shards a task."""
    num_tasks = -(-len(shards) // SHARDS_A_TASK)

    def look(part: Iterable[FileInfo]) -> Iterator[tuple[FileInfo, Layout | None]]:
        yield from find_layouts(part, reading).items()

    return dict(context.parallelize(shards, num_tasks).mapPartitions(look).collect())
