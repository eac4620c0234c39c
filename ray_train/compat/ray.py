"""Private names of Ray that bisieve needs, each with its reason; written for Ray 2.60.

A new version of Ray is first tried against this file: what it moved is corrected here alone.
"""

from ray._private.worker import get_dashboard_url
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision

__all__ = [
    "ControllerCallback",  # to show retries of the controller; the public callbacks run in workers alone
    "DatasetsCallback",  # to leave it out: its actor stays idle where nothing is read with Ray Data
    "DefaultFailurePolicy",  # to end a run at once whose error cannot pass by itself
    "FailureDecision",
    "PlacementGroupCleanerCallback",  # to leave it out where no dashboard runs: it would wait 12 s
    "WorkerCallback",  # to keep SIGTERM for a checkpoint
    "WorkerGroupCallback",  # to watch for ranks that are stuck
    "get_dashboard_url",
    "get_train_context",  # to reach the controller's actor from a worker
]
