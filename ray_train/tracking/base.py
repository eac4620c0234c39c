"""The interface of a tracker, its check before Ray starts, and the threads that call the trackers of a run.

    training loop (rank 0) ──`Trackers.add`──▶ a queue and a `TrackerThread` per tracker ──▶ `Tracker`

Only rank 0 tracks. If it waited for a server, all other ranks would wait for it in their next collective.

The module of a tracker, `ray_train.tracking.NAME`, has a function ``start(run)`` that returns a `Tracker` and
may raise any exception. If it needs an account or a server it also has ``check()``, which raises
`TrainingError` in the driver if the tracker surely cannot start. The workers of a cluster may have other
environment variables than the driver, so a variable that is not set in the driver may be set there.

To add a tracker, add its module, and name its package in `ray_train.choices.TRACKERS` and in ``setup.py``.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from bisieve._redact import without_secrets
from bisieve._text import one_line
from bisieve.cli.extras import distribution_with
from bisieve.errors import BisieveError, TrainingError
from ray_train.choices import TRACKERS, chosen_trackers
from ray_train.config_io import parameters

_WAITING = 10_000  # calls in a tracker's queue; further ones are dropped
_PATIENCE = 30.0  # seconds that all trackers together have at the end of a run to write what they have


@dataclass(frozen=True)
class Run:
    """A training run as trackers see it; a resumed run keeps its name."""

    name: str
    output: str  # URL of the folder that gets the trained model
    first_step: int  # steps done when the run was started or resumed
    params: dict[str, Any]  # options by name, without secrets
    lineage: dict[str, Any]  # fingerprints and size of what it trains on
    say: Callable[[str], None]  # prints a line on the user's terminal
    total_steps: int = 0  # steps of the whole run


class Tracker(Protocol):
    """Receives the metrics of a run; methods may raise and block, since a thread of their own calls them."""

    def add(self, step: int, values: dict[str, float], seconds: float) -> None:
        """Take the metrics of a step.

        Args:
            step: Steps done so far, so the first step is 1.
            values: Metrics by name.
            seconds: Time of the step, in seconds since the Unix epoch.
        """

    def commit(self) -> None:
        """Make everything that was added readable; called after each checkpoint."""

    def close(self, finished: bool) -> None:
        """End tracking; the run may be resumed unless it is ``finished``."""


def check_trackers(track: str) -> None:
    """Raise `TrainingError` if a tracker in ``track`` surely cannot start, and say what to set or install."""
    for name in chosen_trackers(track):
        if find_spec(TRACKERS[name]) is None:
            raise _missing_package(name, TRACKERS[name])
        if check := getattr(_module(name), "check", None):
            check()


def _missing_package(tracker: str, module: str | None) -> TrainingError:
    """Return the error that ``module``, which a tracker imports, is not installed."""
    return TrainingError(
        f"the package of --track {tracker}",
        f"no module {module}",
        f"pip install '{distribution_with(module or tracker, training=True)}' on every machine, "
        "or give another --track",
    )


def _module(name: str) -> Any:
    return import_module(f"ray_train.tracking.{name}")


def started_trackers(job: Any, rank: int, first_step: int, say: Callable[[str], None]) -> "Trackers":
    """Start the trackers of a run on rank 0: those of ``--track``, and Prometheus; none on other ranks.

    Args:
        job: The worker's `Job`.
        rank: This rank.
        first_step: Steps done when the run was started or resumed.
        say: Prints a line on the user's terminal.

    Raises:
        TrainingError: A tracker cannot start.
    """
    config, identity = job.config, job.identity
    lineage = {name: identity[name] for name in ("index", "selection", "order")}
    lineage |= {name: job.card[name] for name in ("fraction_delivered", "rollouts")}
    run = Run(
        str(job.card["run"]), config.output, first_step, parameters(config), lineage, say,
        job.plan.total_steps,
    )  # fmt: skip
    trackers = Trackers()
    try:
        for name in (*chosen_trackers(config.track), "prometheus") if rank == 0 else ():
            trackers.start(name, run)
    except BisieveError:
        trackers.close(finished=False)
        raise
    return trackers


class Trackers:
    """All trackers of a run; the first failure of each after its start is printed, and training goes on."""

    def __init__(self) -> None:
        self._threads: list[TrackerThread] = []

    def start(self, name: str, run: Run) -> None:
        """Start the tracker ``name``.

        Raises:
            TrainingError: Its package is missing, or it cannot start.
        """
        self._threads.append(TrackerThread(name, _started(name, run), run.say))

    def add(self, step: int, values: dict[str, float]) -> None:
        """Queue the metrics after ``step`` steps for all trackers."""
        for thread in self._threads:
            thread.call("add", step, dict(values), time.time())

    def commit(self) -> None:
        """Queue a commit, after which everything added so far is readable."""
        for thread in self._threads:
            thread.call("commit")

    def close(self, finished: bool) -> None:
        """End all trackers, and wait up to 30 seconds for all of them together."""
        for thread in self._threads:
            thread.call("close", finished)
        deadline = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.end(max(0.0, deadline - time.monotonic()))


def _started(name: str, run: Run) -> Tracker:
    try:
        tracker: Tracker = _module(name).start(run)
    except BisieveError:
        raise
    except ModuleNotFoundError as error:
        raise _missing_package(name, error.name) from error
    except Exception as error:  # the packages raise various types
        hint = f"check the environment variables of {name} on the workers, or give another --track"
        raise TrainingError(f"a tracker that answers for --track {name}", _reason(error), hint) from error
    return tracker


class TrackerThread:
    """A thread that makes the calls of one tracker, in order, while training goes on."""

    def __init__(self, name: str, tracker: Tracker, say: Callable[[str], None]) -> None:
        self._name = name
        self._tracker = tracker
        self._say = say
        self._failed = False
        self._calls: queue.Queue[tuple[Any, ...]] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name=f"track-{name}", daemon=True)
        self._thread.start()

    def call(self, method: str, *args: Any) -> None:
        """Queue a call of the tracker's ``method``; drop it if the queue is full."""
        try:
            self._calls.put_nowait((method, *args))
        except queue.Full:
            self._fail("it is too slow, some values are lost")

    def end(self, patience: float) -> None:
        """Wait up to ``patience`` seconds for the tracker to close; then report that it did not."""
        self._thread.join(patience)
        if self._thread.is_alive():
            self._fail("it did not take the last values in time")

    def _work(self) -> None:
        method = ""
        while method != "close":
            method, *args = self._calls.get()
            try:
                getattr(self._tracker, method)(*args)
            except Exception as error:  # of any type: training must go on
                self._fail(_reason(error))

    def _fail(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            self._say(f"{self._name} failed, training goes on: {reason}")


def _reason(error: Exception) -> str:
    return one_line(without_secrets(str(error))) or type(error).__name__
