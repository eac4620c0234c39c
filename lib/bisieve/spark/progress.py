"""How far a run is: Spark's status tracker knows its tasks."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyspark import SparkContext, StatusTracker

from bisieve.pipeline.engine import STAGES, Report
from bisieve.spark.stages import job_group
from bisieve.spark.task_retries import TaskRetries

_EVERY = 1.0  # seconds


@contextmanager
def watched(context: SparkContext, report: Report, every: float = _EVERY) -> Iterator[None]:
    """Report every so many seconds which stage is at work and how far it is, as long as the block runs.

    What Spark tries again is said, too.
    """
    ended = threading.Event()

    def follow() -> None:
        # A tracker whose Spark is gone raises what it likes; the run itself says what went wrong.
        with suppress(Exception):
            tracker, retries = context.statusTracker(), TaskRetries(context)
            while not ended.wait(every):
                retries.look()
                if (at_work := tasks_at_work(tracker)) is not None:
                    report(*at_work)
            retries.look()  # a short job has ended since the last time

    thread = threading.Thread(target=follow, name="bisieve-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)


def tasks_at_work(tracker: StatusTracker) -> tuple[str, int, int] | None:
    """The stage whose job runs, its ended tasks, and all of those that Spark has begun to plan."""
    active = set(tracker.getActiveJobsIds())
    for stage in STAGES:
        for job in active.intersection(tracker.getJobIdsForGroup(job_group(stage))):
            if (info := tracker.getJobInfo(job)) is None:  # it has just ended
                continue
            parts = [part for number in info.stageIds if (part := tracker.getStageInfo(number))]
            # What an earlier job has done already is skipped: it never gets a task.
            begun = [part for part in parts if part.numActiveTasks or part.numCompletedTasks]
            if not begun:
                continue
            return stage, sum(part.numCompletedTasks for part in begun), sum(part.numTasks for part in begun)
    return None
