"""Gives every row its place in a total order, without any one task holding a whole group.

Rows are range-partitioned on a unique key, sorted where they lie, counted, and shifted by the counts before
them.  An un-partitioned window would move all rows to one task, and a window by source would do the same
to a giant source or a giant block of ties.
"""

from itertools import accumulate

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

_LOCAL_BITS = 33  # monotonically_increasing_id: partition number above, place in the partition below


def number_rows(rows: DataFrame, name: str, *order: Column) -> DataFrame:
    """``rows`` with a column ``name``: the 0-based place (int64) of each row in ``order``.

    The order must be total, so that the numbers depend on nothing but the rows.  The result is persisted,
    since the numbers hold only for the one partitioning that was counted: unpersist it after use.
    """
    placed = (
        rows.repartitionByRange(*order)
        .sortWithinPartitions(*order)
        .withColumn("_id", F.monotonically_increasing_id())
        .persist(StorageLevel.MEMORY_AND_DISK)
    )
    partition = F.shiftright("_id", _LOCAL_BITS)
    counts: dict[int, int] = {
        row["partition"]: row["count"]
        for row in placed.groupBy(partition.alias("partition")).count().collect()
    }
    sizes = [counts.get(number, 0) for number in range(max(counts, default=0) + 1)]
    before = list(accumulate(sizes, initial=0))[:-1]
    start = F.element_at(F.lit(before), (partition + 1).cast("int"))
    place = start + F.col("_id").bitwiseAND((1 << _LOCAL_BITS) - 1)
    return placed.withColumn(name, place).drop("_id")
