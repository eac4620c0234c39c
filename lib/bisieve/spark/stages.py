"""Watch the stages of a run: how far each is, and which failed tasks Spark tries again."""

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

_EVERY = 1.0  # seconds


def most_failures(context: SparkContext) -> int:
    """Return how often a task may fail before Spark gives its job up; 1 on one machine, unless asked."""
    master = context.master or ""
    if master.startswith("local") and not master.startswith("local-cluster"):
        asked = _OF_LOCAL.fullmatch(master)
        return int(asked[1]) if asked else 1
    return int(context.getConf().get("spark.task.maxFailures", "4"))


class TaskRetries:
    """Says each failed task of our jobs once, if Spark tries it again."""

    def __init__(self, context: SparkContext) -> None:
        self._context = context
        self._most = most_failures(context)
        self._said: Counter[tuple[int, int]] = Counter()  # failures by stage and its attempt

    def look(self) -> None:
        """Say what has failed since the last look."""
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
        for task in failed[self._said[number, attempt] :]:
            if (tries := task.attempt() + 1) < self._most:
                said = task.errorMessage()
                report = said.get() if said.isDefined() else "no word from its executor"
                say_retry(f"Spark's task {task.index()} of {stage}", tries + 1, reported_error(report))
        self._said[number, attempt] = len(failed)


def _failed_tasks(context: SparkContext, stage: int, attempt: int) -> Iterable[Any]:
    """Yield Spark's `TaskData` of the failed tasks of a stage, the first one first."""
    jvm: Any = context._jvm
    kinds = jvm.org.apache.spark.status.api.v1
    failed = jvm.java.util.ArrayList()
    failed.add(kinds.TaskStatus.FAILED)
    store = context._jsc.sc().statusStore()
    tasks = store.taskList(stage, attempt, 0, 1000, kinds.TaskSorting.ID, failed)
    return (tasks.apply(place) for place in range(tasks.size()))


def name_jobs(context: SparkContext, stage: str) -> None:
    """The jobs that this thread starts from now on belong to ``stage``, one of `STAGES`."""
    context.setJobGroup(job_group(stage), f"bisieve {stage}: {STAGES[stage]}")


def job_group(stage: str) -> str:
    """The id by which Spark's status tracker finds the jobs of a stage."""
    return f"bisieve-{stage}"


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
