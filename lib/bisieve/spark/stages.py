"""Names for the parts of a run, as Spark's UI, its event log and our progress show them."""

from pyspark import SparkContext

STAGES = {
    "scan": "records to scored rollouts in sorted runs",
    "spread": "rollouts of each question brought together",
    "count": "rows of the sorted runs by intervals of their keys",
    "rank": "ranks over all sources",
    "write": "ranked files",
    "rejects": "files of rejected records",
}


def name_jobs(context: SparkContext, stage: str) -> None:
    """The jobs that this thread starts from now on belong to ``stage``, one of `STAGES`."""
    context.setJobGroup(job_group(stage), f"bisieve {stage}: {STAGES[stage]}")


def job_group(stage: str) -> str:
    """The id by which Spark's status tracker finds the jobs of a stage."""
    return f"bisieve-{stage}"
