"""The pipeline's engine on Spark: parts are partitions of an RDD of pickled Python values."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from typing import Any, TypeVar, cast

from pyspark import RDD, Accumulator, Broadcast, SparkContext, StorageLevel
from pyspark.accumulators import AccumulatorParam

from bisieve.pipeline.engine import Engine, Parts, Report
from bisieve.spark.session import spark_context, unwrapped_errors
from bisieve.spark.stages import name_jobs, watched

T = TypeVar("T")
U = TypeVar("U")


@contextmanager
def spark_engine(master: str | None = None, conf: Mapping[str, str] | None = None) -> Iterator["SparkEngine"]:
    """Start Spark and yield an engine on it; Spark stops at the end of the block.

    Args:
        master: See `session.spark_context`.
        conf: Spark properties.

    Raises:
        UsageError: Spark cannot start, see `session.spark_context`.
        BisieveError: What a task raised, see `session.unwrapped_errors`.
    """
    with unwrapped_errors(), spark_context(master, conf) as context:
        yield SparkEngine(context)


@contextmanager
def engine_on(context: SparkContext) -> Iterator["SparkEngine"]:
    """Yield an engine on a running Spark, which keeps running after the block.

    Raises:
        BisieveError: What a task raised, see `session.unwrapped_errors`.
    """
    with unwrapped_errors():
        yield SparkEngine(context)


class SparkEngine(Engine):
    """Engine whose tasks are Spark tasks."""

    def __init__(self, context: SparkContext) -> None:
        self._context = context
        self.cores = context.defaultParallelism

    def spread(self, values: Sequence[T]) -> Parts[T]:
        """Return a collection with one partition for each of ``values``."""
        rdd: Any = self._context.parallelize(values, max(len(values), 1))
        return SparkParts(rdd.mapPartitionsWithIndex(_with_frozen_gc))

    def union(self, collections: Sequence[Parts[T]]) -> Parts[T]:
        """Return a collection of the partitions of all ``collections``, in order."""
        rdds = [one.rdd for one in cast("Sequence[SparkParts[T]]", collections)]
        return SparkParts(self._context.union(rdds))

    def share(self, value: T) -> Broadcast[T]:
        """Return ``value`` as a broadcast variable."""
        return self._context.broadcast(value)

    def counter(self) -> Accumulator[int]:
        """Return a new accumulator with the value 0."""
        return self._context.accumulator(0)

    def watched(self, report: Report) -> AbstractContextManager[None]:
        """Return a context manager that reports progress and task retries, see `stages.watched`."""
        return watched(self._context, report)


class SparkParts(Parts[T]):
    """Collection in the partitions of an RDD."""

    def __init__(self, rdd: "RDD[T]") -> None:
        self.rdd = rdd

    def map_parts(self, work: Callable[[int, Iterator[T]], Iterable[U]]) -> Parts[U]:
        """Return a lazy collection of what ``work(number, values)`` yields for each partition."""
        rdd: Any = self.rdd  # pyspark types the function as taking an Iterable
        return SparkParts(rdd.mapPartitionsWithIndex(work))

    def by_number(self, parts: int, stage: str) -> Parts[Any]:
        """Shuffle pairs ``(number, value)`` lazily; partition i holds the pairs with number i."""
        rdd: Any = self.rdd
        return SparkParts(rdd.partitionBy(parts, int))

    def keep(self, stage: str, about: Callable[[T], U]) -> tuple[Parts[T], list[U]]:
        """Compute and persist all values (MEMORY_AND_DISK); return them, and ``about`` of each in order."""
        # ``about`` uses an accumulator: a map over the persisted RDD would send every value to Python again.
        results: Any = self.rdd.context.accumulator({}, _MergeDicts())
        kept = self.rdd.mapPartitionsWithIndex(partial(_collecting, results, about))
        kept.persist(StorageLevel.MEMORY_AND_DISK)
        name_jobs(self.rdd.context, stage)
        kept._jrdd.count()  # counts in the JVM; RDD.count() would send all values to Python
        return SparkParts(kept), [results.value[place] for place in sorted(results.value)]

    def drop(self) -> None:
        """Unpersist the RDD."""
        self.rdd.unpersist()

    def collect(self, stage: str) -> list[T]:
        """Compute all values and return them on the driver, in the order of the partitions."""
        name_jobs(self.rdd.context, stage)
        return self.rdd.collect()

    def total(self, stage: str) -> T:
        """Return the sum of all values by ``+``, computed as a tree on the workers."""
        name_jobs(self.rdd.context, stage)
        return self.rdd.treeReduce(_add)  # many large sums should not reach the driver at the same time


Results = dict[
    tuple[int, int], Any
]  # by (partition, position in it), so that a task that ran twice counts once


class _MergeDicts(AccumulatorParam[Results]):
    def zero(self, value: Results) -> Results:
        return {}

    def addInPlace(self, value1: Results, value2: Results) -> Results:  # noqa: N802 - pyspark's name
        value1.update(value2)
        return value1


def _collecting(results: Any, about: Callable[[T], U], number: int, values: Iterator[T]) -> Iterator[T]:
    for place, value in enumerate(values):
        results.add({(number, place): about(value)})
        yield value


def _with_frozen_gc(number: int, values: Iterator[T]) -> Iterator[T]:
    freeze_gc()
    return values


@cache
def freeze_gc() -> None:
    """Exclude imported modules from garbage collection, which Spark's worker runs after every task."""
    gc.freeze()


def _add(one: Any, two: Any) -> Any:
    return one + two
