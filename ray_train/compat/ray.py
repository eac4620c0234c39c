"""Private names of Ray Train that bisieve needs, each with its reason, and its trainer; written for Ray 2.60.

When upgrading Ray, check this file and `ray_init` first: only these two name what may have moved.
"""

from typing import Any

from ray._private.worker import get_dashboard_url
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.failure_handling import (
    DefaultFailurePolicy,
    FailureDecision,
    FailurePolicy,
)
from ray.train.v2.torch.torch_trainer import TorchTrainer

__all__ = [
    "ControllerCallback",  # to show retries of the controller; public callbacks run only in workers
    "DefaultFailurePolicy",  # to end a run at once after a permanent error
    "FailureDecision",  # what a failure policy returns
    "Trainer",
    "WorkerCallback",  # to write a checkpoint at SIGTERM
    "WorkerGroupCallback",  # to find stuck ranks
    "get_train_context",  # to see in a worker that Ray drains its node
]


class Trainer(TorchTrainer):
    """Ray Train's trainer with a failure policy of ours, and without two callbacks that only cost time here.

    The datasets callback starts a process that imports Ray Data each time workers start, though nothing is
    read with Ray Data. The cleaner of placement groups asks the dashboard whether the controller is alive;
    the local Ray of one command has no dashboard, so every run would wait 12 s for the cleaner to give up.
    """

    def __init__(self, *args: Any, failure_policy: FailurePolicy, **options: Any) -> None:
        super().__init__(*args, **options)
        self._failure_policy = failure_policy

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        parts["failure_policy"] = self._failure_policy
        return super()._initialize_and_run_controller(**parts)

    def _register_sigint_handler(self, controller: Any) -> None:
        """Set no handler: Ray Train's (2.60) saves no checkpoint; `fault_tolerance.forward_signals` does."""

    def _create_default_callbacks(self) -> list[Any]:
        idle: tuple[type, ...] = (DatasetsCallback,)
        if not get_dashboard_url():  # type: ignore[no-untyped-call]
            idle += (PlacementGroupCleanerCallback,)
        return [one for one in super()._create_default_callbacks() if not isinstance(one, idle)]
