"""Prometheus: a run's last metrics as Ray's own gauges, which each node's Ray serves to be scraped.

Ray puts ``ray_`` before the names.  A gauge is gone when its worker is.
"""

from ray.util.metrics import Gauge

from ray_train.tracking.base import Run

PREFIX = "bisieve_"
PROGRESS = ("step", "total_steps", "checkpoint_step")  # beside the metrics of a step


def start(run: Run) -> "Prometheus":
    """The gauges of ``run``, by their tag ``run``."""
    return Prometheus(run)


class Prometheus:
    """A `Tracker` that sets gauges."""

    def __init__(self, run: Run) -> None:
        self._tags = {"run": run.name}
        self._gauges: dict[str, Gauge] = {}
        self._step = run.first_step
        self._set("total_steps", run.total_steps)
        self._set("step", run.first_step)

    def add(self, step: int, values: dict[str, float], seconds: float) -> None:
        self._step = step
        for name, value in {"step": step, **values}.items():
            self._set(name, value)

    def commit(self) -> None:
        self._set("checkpoint_step", self._step)

    def close(self, finished: bool) -> None:
        """Nothing: the gauges end with the worker."""

    def _set(self, name: str, value: float) -> None:
        if name not in self._gauges:
            text = f"{name.replace('_', ' ')} of a bisieve training run"
            self._gauges[name] = Gauge(PREFIX + name, text, tag_keys=("run",))
        self._gauges[name].set(value, self._tags)
