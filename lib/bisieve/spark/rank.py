"""Ranks scored rollouts: inside their source or over all, with ties broken by an explicit rule."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from bisieve.manifest import Parameters
from bisieve.spark.number import number_rows

ROW = "row"  # the place of a row in the index


def rank_rollouts(scored: DataFrame, parameters: Parameters, rollouts: Mapping[str, int]) -> DataFrame:
    """Usable rollouts with ``rank`` (1 = best) and their place in the index, by (source, rank).

    ``rollouts`` gives the usable rollouts of each source.
    """
    if parameters.ties == "spread":
        scored = scored.withColumn("occurrence", _occurrence(parameters.scope))
    best_first = _best_first(parameters)
    if parameters.scope == "global":
        ranked = number_rows(scored, "rank", *best_first).withColumn("rank", F.col("rank") + 1)
        return number_rows(ranked, ROW, F.col("source"), F.col("rank"))
    numbered = number_rows(scored, ROW, F.col("source"), *best_first)
    starts, start = [], 0
    for source in sorted(rollouts):
        starts.append((source, start))
        start += rollouts[source]
    first_row = scored.sparkSession.createDataFrame(starts, "source string, first_row long")
    return numbered.join(F.broadcast(first_row), "source").withColumn(
        "rank", F.expr(f"{ROW} - first_row + 1")
    )


def _best_first(parameters: Parameters) -> list[Column]:
    in_file_order = [F.col("shard"), F.col("offset")]  # unique: no two rollouts begin at one place
    ties = {
        "file": [],
        "hash": [F.xxhash64(F.lit(parameters.tie_seed), F.col("rollout_id"))],
        "spread": [F.col("occurrence")],
    }
    return [F.col("bis").desc(), *ties[parameters.ties], *in_file_order]


def _occurrence(scope: str) -> Column:
    """1 for the best rollout of its question, 2 for the second best, …"""
    group = ["question_id"] if scope == "global" else ["source", "question_id"]
    return F.row_number().over(Window.partitionBy(*group).orderBy(F.col("bis").desc(), "shard", "offset"))
