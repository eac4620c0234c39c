"""Ranks an index anew on Spark, for one that does not fit into a process."""

from functools import partial

from pyspark import SparkContext, StorageLevel

from bisieve.events import Tell, silent
from bisieve.index import Index
from bisieve.manifest import DataFile, Parameters
from bisieve.ranked import RankedFile
from bisieve.ranking import ranking_order, with_keys
from bisieve.rerank import count_usable, publish_ranked, read_scored
from bisieve.sort.runs import Run, Sample, sorted_run
from bisieve.spark.progress import watched
from bisieve.spark.stages import name_jobs
from bisieve.spark.write import write_ranked
from bisieve.totals import Totals, add_up


def publish_ranked_on_spark(
    context: SparkContext, index: Index, parameters: Parameters, output: str, tell: Tell = silent
) -> tuple[Index, bool]:
    """As `rerank.publish_ranked`."""
    with watched(context, tell):
        return publish_ranked(index, parameters, output, partial(rank_on_spark, context), tell)


def rank_on_spark(
    context: SparkContext, index: Index, parameters: Parameters, url: str, folder: str
) -> tuple[list[RankedFile], Totals]:
    """As `rerank.rank_in_memory`, one file of the old index at a time."""
    files = list(enumerate(index.files))
    read = partial(read_scored, index)

    def run(numbered: tuple[int, DataFile]) -> tuple[Run, Sample, Totals]:
        number, file = numbered
        rows = with_keys(read(file, parameters), parameters)
        return *sorted_run((number,), rows, ranking_order(parameters)), count_usable(rows)

    runs = context.parallelize(files, len(files)).map(run).persist(StorageLevel.MEMORY_AND_DISK)
    name_jobs(context, "scan")
    summaries = runs.map(lambda found: found[1:]).collect()
    totals = add_up(part for _, part in summaries)
    samples = [sample for sample, _ in summaries]
    ranked = write_ranked(runs.map(lambda found: found[0]), samples, parameters, totals.rollouts, url, folder)
    return ranked, totals
