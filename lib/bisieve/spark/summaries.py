"""Computes and keeps the chunks of a scan, and tells the driver of them on the way."""

from typing import Any

from pyspark import RDD, StorageLevel
from pyspark.accumulators import AccumulatorParam

from bisieve.scan.chunks import Chunk, Summary
from bisieve.spark.stages import name_jobs

Summaries = dict[tuple[int, ...], Summary]  # by the number of the chunk's runs: one that is made twice is one


def summarised(chunks: "RDD[Chunk]") -> tuple["RDD[Chunk]", list[Summary]]:
    """The same chunks, persisted, and their summaries in the order of their numbers.

    Summaries come by an accumulator: a map over what is persisted would take every chunk to Python again.
    """
    told: Any = chunks.context.accumulator({}, _Together())

    def tell(chunk: Chunk) -> Chunk:
        told.add({chunk.usable.number: chunk.summary})
        return chunk

    kept = chunks.map(tell).persist(StorageLevel.MEMORY_AND_DISK)
    name_jobs(chunks.context, "scan")
    kept._jrdd.count()  # in the JVM alone; RDD.count() would take all to Python, too
    return kept, [told.value[number] for number in sorted(told.value)]


class _Together(AccumulatorParam[Summaries]):
    def zero(self, value: Summaries) -> Summaries:
        return {}

    def addInPlace(self, value1: Summaries, value2: Summaries) -> Summaries:  # noqa: N802 - pyspark's name
        value1.update(value2)
        return value1
