"""Watch a run on Spark (`watched`): report the progress of its stages, and failed tasks that Spark retries.

The jobs of a stage of `STAGES` are in one Spark job group, which `name_jobs` sets.  A *stage* here is one of
those, except where it is called Spark's.
"""

import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pyspark import SparkContext, StatusTracker

from bisieve.io.retry import say_retry
from bisieve.pipeline.engine import STAGES, Report
from bisieve.spark.session import reported_error

_OF_LOCAL = re.compile(r"local\[[^,\]]+,\s*(\d+)\]")  # local[WORKERS,FAILURES]

_EVERY = 1.0  # seconds between two reports


def most_failures(context: SparkContext) -> int:
    """Return the number of failures of a task at which Spark fails the job; in local mode 1 by default."""
    master = context.master or ""
    if master.startswith("local") and not master.startswith("local-cluster"):
        asked = _OF_LOCAL.fullmatch(master)
        return int(asked[1]) if asked else 1
    return int(context.getConf().get("spark.task.maxFailures", "4"))


class TaskRetries:
    """Logger of retries: each failed task of the run's jobs is logged once, if Spark tries it again."""

    def __init__(self, context: SparkContext) -> None:
        self._context = context
        self._most = most_failures(context)
        self._logged: Counter[tuple[int, int]] = Counter()  # failures, by Spark's stage and its attempt

    def look(self) -> None:
        """Log the tasks that have failed since the last call."""
        if self._most == 1:
            return
        tracker = self._context.statusTracker()
        for stage in STAGES:
            for job in tracker.getJobIdsForGroup(job_group(stage)):
                for number in getattr(tracker.getJobInfo(job), "stageIds", ()):
                    info = tracker.getStageInfo(number)
                    if info is not None and info.numFailedTasks:
                        self._say(stage, number, info.currentAttemptId)

    def _say(self, stage: str, number: int, attempt: int) -> None:
        failed = list(_failed_tasks(self._context, number, attempt))
        for task in failed[self._logged[number, attempt] :]:
            if (tries := task.attempt() + 1) < self._most:
                said = task.errorMessage()
                report = said.get() if said.isDefined() else "no error message from its executor"
                say_retry(f"Spark's task {task.index()} of {stage}", tries + 1, reported_error(report))
        self._logged[number, attempt] = len(failed)


def _failed_tasks(context: SparkContext, stage: int, attempt: int) -> Iterable[Any]:
    """Return Spark's `TaskData` of the failed tasks of a Spark stage, ordered by task id."""
    jvm: Any = context._jvm
    kinds = jvm.org.apache.spark.status.api.v1
    failed = jvm.java.util.ArrayList()
    failed.add(kinds.TaskStatus.FAILED)
    store = context._jsc.sc().statusStore()
    tasks = store.taskList(stage, attempt, 0, 1000, kinds.TaskSorting.ID, failed)
    return (tasks.apply(place) for place in range(tasks.size()))


def name_jobs(context: SparkContext, stage: str) -> None:
    """Put the jobs that this thread starts from now on into the job group of ``stage``, one of `STAGES`."""
    context.setJobGroup(job_group(stage), f"bisieve {stage}: {STAGES[stage]}")


def job_group(stage: str) -> str:
    """Return the id of the Spark job group of a stage."""
    return f"bisieve-{stage}"


@contextmanager
def watched(context: SparkContext, report: Report, every: float = _EVERY) -> Iterator[None]:
    """Report the progress of the running stage from a thread, until the block ends; log task retries, too.

    Args:
        context: The running Spark.
        report: Called in the thread; not called while no job runs.
        every: Seconds between two reports.
    """
    ended = threading.Event()

    def follow() -> None:
        # If Spark has gone, the tracker raises various errors; the run itself reports what went wrong.
        with suppress(Exception):
            tracker, retries = context.statusTracker(), TaskRetries(context)
            while not ended.wait(every):
                retries.look()
                if (at_work := tasks_at_work(tracker)) is not None:
                    report(*at_work)
            retries.look()  # for jobs that have ended since the last call

    thread = threading.Thread(target=follow, name="bisieve-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)


def tasks_at_work(tracker: StatusTracker) -> tuple[str, int, int] | None:
    """Return the stage whose job runs, the number of its finished tasks, and of all its tasks so far.

    Only Spark stages that have begun are counted.  None if no job runs.
    """
    active = set(tracker.getActiveJobsIds())
    for stage in STAGES:
        for job in active.intersection(tracker.getJobIdsForGroup(job_group(stage))):
            if (info := tracker.getJobInfo(job)) is None:  # the job has just ended
                continue
            parts = [part for number in info.stageIds if (part := tracker.getStageInfo(number))]
            # Spark skips stages that an earlier job has computed; they never get a task.
            begun = [part for part in parts if part.numActiveTasks or part.numCompletedTasks]
            if not begun:
                continue
            return stage, sum(part.numCompletedTasks for part in begun), sum(part.numTasks for part in begun)
    return None
