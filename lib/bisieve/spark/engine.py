"""The pipeline's engine on Spark: parts are partitions of an RDD, whose values no JVM ever looks into."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from typing import Any, TypeVar

from pyspark import RDD, Accumulator, Broadcast, SparkContext, StorageLevel
from pyspark.accumulators import AccumulatorParam

from bisieve.pipeline.engine import Engine, Parts, Report
from bisieve.spark.session import spark_context, unwrapped_errors
from bisieve.spark.stages import name_jobs, watched

T = TypeVar("T")
U = TypeVar("U")


@contextmanager
def spark_engine(master: str | None = None, conf: Mapping[str, str] | None = None) -> Iterator["SparkEngine"]:
    """An engine whose Spark ends with the block; errors are those of `session.spark_context`."""
    with unwrapped_errors(), spark_context(master, conf) as context:
        yield SparkEngine(context)


@contextmanager
def engine_on(context: SparkContext) -> Iterator["SparkEngine"]:
    """An engine on a Spark that runs, and goes on after the block."""
    with unwrapped_errors():
        yield SparkEngine(context)


class SparkEngine(Engine):
    """Tasks run where the context's master runs them."""

    def __init__(self, context: SparkContext) -> None:
        self._context = context
        self.cores = context.defaultParallelism

    def spread(self, values: Sequence[T]) -> Parts[T]:
        rdd: Any = self._context.parallelize(values, max(len(values), 1))
        return SparkParts(rdd.mapPartitionsWithIndex(_settled))

    def union(self, collections: Sequence[Parts[T]]) -> Parts[T]:
        rdds = [one.rdd for one in collections if isinstance(one, SparkParts)]
        return SparkParts(self._context.union(rdds))

    def share(self, value: T) -> Broadcast[T]:
        return self._context.broadcast(value)

    def counter(self) -> Accumulator[int]:
        return self._context.accumulator(0)

    def watched(self, report: Report) -> AbstractContextManager[None]:
        return watched(self._context, report)


class SparkParts(Parts[T]):
    """An RDD."""

    def __init__(self, rdd: "RDD[T]") -> None:
        self.rdd = rdd

    def map_parts(self, work: Callable[[int, Iterator[T]], Iterable[U]]) -> Parts[U]:
        rdd: Any = self.rdd  # which is typed as giving an iterable
        return SparkParts(rdd.mapPartitionsWithIndex(work))

    def by_number(self, parts: int, stage: str) -> Parts[Any]:
        rdd: Any = self.rdd
        return SparkParts(rdd.partitionBy(parts, int))

    def keep(self, stage: str, about: Callable[[T], U]) -> tuple[Parts[T], list[U]]:
        # By an accumulator: a map over what is persisted would take every value to Python again.
        told: Any = self.rdd.context.accumulator({}, _Together())
        kept = self.rdd.mapPartitionsWithIndex(partial(_telling, told, about))
        kept.persist(StorageLevel.MEMORY_AND_DISK)
        name_jobs(self.rdd.context, stage)
        kept._jrdd.count()  # in the JVM alone; RDD.count() would take all to Python, too
        return SparkParts(kept), [told.value[place] for place in sorted(told.value)]

    def drop(self) -> None:
        self.rdd.unpersist()

    def collect(self, stage: str) -> list[T]:
        name_jobs(self.rdd.context, stage)
        return self.rdd.collect()

    def total(self, stage: str) -> T:
        name_jobs(self.rdd.context, stage)
        return self.rdd.treeReduce(_add)  # many large sums would not go to the driver at once


Told = dict[tuple[int, int], Any]  # by part and place in it: what is computed twice is told once


class _Together(AccumulatorParam[Told]):
    def zero(self, value: Told) -> Told:
        return {}

    def addInPlace(self, value1: Told, value2: Told) -> Told:  # noqa: N802 - pyspark's name
        value1.update(value2)
        return value1


def _telling(told: Any, about: Callable[[T], U], number: int, values: Iterator[T]) -> Iterator[T]:
    for place, value in enumerate(values):
        told.add({(number, place): about(value)})
        yield value


def _settled(number: int, values: Iterator[T]) -> Iterator[T]:
    freeze_gc()
    return values


@cache
def freeze_gc() -> None:
    """Tells the garbage collector that what is imported stays: Spark's worker runs it after every task."""
    gc.freeze()


def _add(one: Any, two: Any) -> Any:
    return one + two
