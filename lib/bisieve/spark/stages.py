"""Names for the parts of a run, as Spark's UI, its event log and our progress show them."""

from pyspark import SparkContext

from bisieve.pipeline.engine import STAGES


def name_jobs(context: SparkContext, stage: str) -> None:
    """The jobs that this thread starts from now on belong to ``stage``, one of `STAGES`."""
    context.setJobGroup(job_group(stage), f"bisieve {stage}: {STAGES[stage]}")


def job_group(stage: str) -> str:
    """The id by which Spark's status tracker finds the jobs of a stage."""
    return f"bisieve-{stage}"
