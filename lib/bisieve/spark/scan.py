"""Runs the engine-free scan on Spark: splits of shards in, scored rollouts out."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from bisieve import schema
from bisieve.records import Layout
from bisieve.scan.assemble import assemble
from bisieve.scan.options import ScanOptions
from bisieve.scan.rollouts import scan_rollouts
from bisieve.scan.steps import scan_steps
from bisieve.shards import Split


def scan_corpus(
    spark: SparkSession, splits: Sequence[Split], layout: Layout, options: ScanOptions
) -> DataFrame:
    """Every rollout of the splits as a row of `schema.SCORED`, in no order."""
    if layout == "rollouts":
        return _each_split(spark, splits, layout, options)
    steps = _each_split(spark, splits, layout, options).persist()
    return _assembled(steps, options).unionByName(_homeless(steps))


def _each_split(
    spark: SparkSession, splits: Sequence[Split], layout: Layout, options: ScanOptions
) -> DataFrame:
    scan, rows = (scan_rollouts, schema.SCORED) if layout == "rollouts" else (scan_steps, schema.STEPS)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in batch.select(["shard", "start", "end"]).to_pylist():
                yield from scan(Split(**row), options)

    table = pa.Table.from_pylist([{**asdict(split), "task": task} for task, split in enumerate(splits)])
    return (
        spark.createDataFrame(table)
        .repartitionById(len(splits), F.col("task").cast("int"))
        .mapInArrow(run, from_arrow_schema(rows))
    )


def _assembled(steps: DataFrame, options: ScanOptions) -> DataFrame:
    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from assemble(batches, options)

    return (
        steps.where("rollout_id is not null")
        .repartition("rollout_id")
        .sortWithinPartitions("rollout_id", "step_index", "shard", "offset")
        .mapInArrow(run, from_arrow_schema(schema.SCORED))
    )


def _homeless(steps: DataFrame) -> DataFrame:
    """The step records that belong to no rollout, as rejected rows."""
    types = {field.name: field.dataType for field in from_arrow_schema(schema.SCORED)}
    given = set(schema.STEPS.names)
    columns = [
        (F.col(name) if name in given and name not in _PER_STEP else F.lit(None)).cast(kind).alias(name)
        for name, kind in types.items()
    ]
    return steps.where("rollout_id is null").select(columns)


_PER_STEP = {"mc_correct", "mc_total"}  # one number a step there, one list a rollout here
