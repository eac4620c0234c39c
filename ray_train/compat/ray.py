"""Private names of Ray that bisieve needs, each with its reason; written for Ray 2.60.

When upgrading Ray, check this module first: a name that has moved is changed only here.
"""

from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision

__all__ = [
    "ControllerCallback",  # to show retries of the controller; public callbacks run only in workers
    "DefaultFailurePolicy",  # to end a run at once after a permanent error
    "FailureDecision",
    "WorkerCallback",  # to write a checkpoint at SIGTERM
    "WorkerGroupCallback",  # to find stuck ranks
    "get_train_context",  # to see in a worker that Ray drains its node
]
