"""Counts what a scan found: per source, per reason and per shard."""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from bisieve.manifest import SourceTotals


@dataclass(frozen=True)
class Totals:
    """The numbers of a scan."""

    sources: list[SourceTotals]  # in the order of their names; those with only rejects included
    examples: dict[str, str]  # for each reason the first rejected record, shard@offset
    shards: dict[str, tuple[int, int]]  # usable rollouts and rejects by shard


def count_totals(scored: DataFrame) -> Totals:
    """The totals of `schema.SCORED` rows."""
    rejected: dict[str, dict[str, int]] = {}
    first: dict[str, tuple[str, int]] = {}
    for row in _by_reason(scored).collect():
        rejected.setdefault(row["source"], {})[row["reason"]] = row["rejected"]
        place = (row["first"]["shard"], row["first"]["offset"])
        first[row["reason"]] = min(place, first.get(row["reason"], place))
    usable = {row["source"]: row.asDict() for row in _by_source(scored).collect()}
    nothing = dict.fromkeys(("rollouts", "steps", "mixed", "all_positive", "all_negative", "tie_block"), 0)
    sources = [
        SourceTotals(
            **{**nothing, **usable.get(source, {}), "source": source},
            rejected=dict(sorted(rejected.get(source, {}).items())),
        )
        for source in sorted({*usable, *rejected})
    ]
    shards = {row["shard"]: (row["rollouts"], row["rejected"]) for row in _by_shard(scored).collect()}
    examples = {reason: f"{shard}@{offset}" for reason, (shard, offset) in sorted(first.items())}
    return Totals(sources, examples, shards)


def _by_source(scored: DataFrame) -> DataFrame:
    # By score first: the largest of those groups is the tie block.
    by_score = (
        scored.where("reason is null")
        .groupBy("source", "bis")
        .agg(
            F.count("*").alias("tied"),
            F.sum("num_steps").alias("steps"),
            F.count_if(F.expr("num_positive > 0 and num_positive < num_steps")).alias("mixed"),
            F.count_if(F.expr("num_positive = num_steps")).alias("all_positive"),
            F.count_if(F.expr("num_positive = 0")).alias("all_negative"),
        )
    )
    sums = [F.sum(name).alias(name) for name in ("steps", "mixed", "all_positive", "all_negative")]
    return by_score.groupBy("source").agg(
        F.sum("tied").alias("rollouts"), *sums, F.max("tied").alias("tie_block")
    )


def _by_reason(scored: DataFrame) -> DataFrame:
    first = F.min(F.struct("shard", "offset")).alias("first")
    return (
        scored.where("reason is not null")
        .groupBy("source", "reason")
        .agg(F.count("*").alias("rejected"), first)
    )


def _by_shard(scored: DataFrame) -> DataFrame:
    return scored.groupBy("shard").agg(
        F.count_if(F.expr("reason is null")).alias("rollouts"),
        F.count_if(F.expr("reason is not null")).alias("rejected"),
    )
