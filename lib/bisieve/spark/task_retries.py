"""Say which tasks Spark tries again, and why: its status store knows, and shows it only on its page."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pyspark import SparkContext

from bisieve.patience import say_retry
from bisieve.pipeline.engine import STAGES
from bisieve.spark.session import reported_error
from bisieve.spark.stages import job_group

_OF_LOCAL = re.compile(r"local\[[^,\]]+,\s*(\d+)\]")  # local[WORKERS,FAILURES]


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
