"""Ray Train's trainer with our retries and signals, and without two of its actors that have nothing to do."""

from typing import Any

from ray._private.worker import get_dashboard_url
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.torch.torch_trainer import TorchTrainer

from ray_train.run.retries import FailurePolicy


class Trainer(TorchTrainer):
    """Ray Train's trainer without the actors that have nothing to do here.

    The manager of Ray Data's datasets, of which there are none: a process that imports Ray Data each time
    workers start.  The cleaner of placement groups asks the dashboard whether the controller lives; where
    there is none, on the Ray that we start for one command, it gets no answer, and every run waits 12 s for
    it to give up.
    """

    def __init__(self, *args: Any, board: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._board = board

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        failures: Any = self.run_config.failure_config
        parts["failure_policy"] = FailurePolicy(failures, self._board)
        return super()._initialize_and_run_controller(**parts)

    def _register_sigint_handler(self, controller: Any) -> None:
        """Keep the handler of `notice.passed_on`: Ray Train's (2.60) aborts without a checkpoint."""

    def _create_default_callbacks(self) -> list[Any]:
        idle: tuple[type, ...] = (DatasetsCallback,)
        if not get_dashboard_url():  # type: ignore[no-untyped-call]
            idle += (PlacementGroupCleanerCallback,)
        return [one for one in super()._create_default_callbacks() if not isinstance(one, idle)]
