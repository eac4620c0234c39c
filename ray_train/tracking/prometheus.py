"""The tracker for Prometheus: a run's last metrics as gauges of Ray, which each node's Ray serves.

Ray adds the prefix ``ray_`` to the names. A gauge ends with its worker.
"""

from ray.util.metrics import Gauge

from ray_train.tracking.base import Run

PREFIX = "bisieve_"
PROGRESS = ("step", "total_steps", "checkpoint_step")  # gauges in addition to the metrics of a step


def start(run: Run) -> "Prometheus":
    """Create the gauges of ``run``."""
    return Prometheus(run)


class Prometheus:
    """A `Tracker` that sets gauges, with the run's name as their tag ``run``."""

    def __init__(self, run: Run) -> None:
        self._tags = {"run": run.name}
        self._gauges: dict[str, Gauge] = {}
        self._step = run.first_step
        self._set("total_steps", run.total_steps)
        self._set("step", run.first_step)

    def add(self, step: int, values: dict[str, float], seconds: float) -> None:
        """Set the gauges to the metrics of the step."""
        self._step = step
        for name, value in {"step": step, **values}.items():
            self._set(name, value)

    def commit(self) -> None:
        """Set the gauge of the last checkpoint to the last step."""
        self._set("checkpoint_step", self._step)

    def close(self, finished: bool) -> None:
        """Do nothing, since the gauges end with the worker."""

    def _set(self, name: str, value: float) -> None:
        if name not in self._gauges:
            text = f"{name.replace('_', ' ')} of a bisieve training run"
            self._gauges[name] = Gauge(PREFIX + name, text, tag_keys=("run",))
        self._gauges[name].set(value, self._tags)
