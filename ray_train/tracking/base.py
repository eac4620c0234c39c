"""The interface of a tracker, and the threads that run each tracker of a run.

Only one rank tracks.  If it waited for a server, the others would wait for it in their next collective.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from bisieve._redact import without_secrets
from bisieve.errors import BisieveError, TrainingError
from ray_train.choices import chosen_trackers
from ray_train.run_config import parameters

_WAITING = 10_000  # calls that a tracker may be behind; what comes on top is lost
_PATIENCE = 30.0  # seconds that all trackers together get to write what they have when the run ends


@dataclass(frozen=True)
class Run:
    """A training run as trackers know it; one that is resumed has the name it had."""

    name: str
    output: str  # URL of the folder that gets the trained model
    first_step: int  # steps done when it is started or resumed
    params: dict[str, Any]  # the resolved config, fit to be shown
    lineage: dict[str, Any]  # what it is trained on
    say: Callable[[str], None]  # a line for the user's terminal
    total_steps: int = 0  # that it will have done at its end


class Tracker(Protocol):
    """Takes the metrics of a run; made by a function ``start(run)``, which may raise what it likes.

    The methods may raise and may take long: they are called from a thread of their own.
    """

    def add(self, step: int, values: dict[str, float], seconds: float) -> None:
        """Takes the metrics after ``step`` steps, which was ``seconds`` after the epoch (Unix)."""

    def commit(self) -> None:
        """Makes all that was added readable."""

    def close(self, finished: bool) -> None:
        """The run ends; unless ``finished`` it may be resumed."""


def started_trackers(job: Any, rank: int, first_step: int, say: Callable[[str], None]) -> "Trackers":
    """Those that the `Job` asks for, on rank 0; none elsewhere.  `TrainingError` where one cannot start."""
    config, identity = job.config, job.identity
    lineage = {name: identity[name] for name in ("index", "cut", "order")}
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
    """All trackers of a run; what fails after the start is said once and stops nothing."""

    def __init__(self) -> None:
        self._threads: list[TrackerThread] = []

    def start(self, name: str, run: Run) -> None:
        """Starts the tracker ``name``; `TrainingError` where its package is missing or it cannot start."""
        self._threads.append(TrackerThread(name, _started(name, run), run.say))

    def add(self, step: int, values: dict[str, float]) -> None:
        """Passes on the metrics after ``step`` steps."""
        for thread in self._threads:
            thread.call("add", step, dict(values), time.time())

    def commit(self) -> None:
        """Asks for all that was added to become readable."""
        for thread in self._threads:
            thread.call("commit")

    def close(self, finished: bool) -> None:
        """Ends all trackers, and waits for them, but not for ever."""
        for thread in self._threads:
            thread.call("close", finished)
        deadline = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.end(max(0.0, deadline - time.monotonic()))


def _started(name: str, run: Run) -> Tracker:
    try:
        tracker: Tracker = import_module(f"ray_train.tracking.{name}").start(run)
    except BisieveError:
        raise
    except ModuleNotFoundError as error:
        hint = f"pip install 'bisieve[{name}]' on every machine, or give another --track"
        raise TrainingError(f"the package of --track {name}", f"no module {error.name}", hint) from error
    except Exception as error:  # the packages raise what they like
        hint = f"check the environment variables of {name} on the workers, or give another --track"
        raise TrainingError(f"a tracker that answers for --track {name}", _reason(error), hint) from error
    return tracker


class TrackerThread:
    """Calls one tracker in order, behind the back of the training."""

    def __init__(self, name: str, tracker: Tracker, say: Callable[[str], None]) -> None:
        self._name = name
        self._tracker = tracker
        self._say = say
        self._failed = False
        self._calls: queue.Queue[tuple[Any, ...]] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name=f"track-{name}", daemon=True)
        self._thread.start()

    def call(self, method: str, *args: Any) -> None:
        """Has ``method`` of the tracker called, some time."""
        try:
            self._calls.put_nowait((method, *args))
        except queue.Full:
            self._fail("it is too slow, some values are lost")

    def end(self, patience: float) -> None:
        """Waits up to ``patience`` seconds for the tracker to close."""
        self._thread.join(patience)
        if self._thread.is_alive():
            self._fail("it did not take the last values in time")

    def _work(self) -> None:
        method = ""
        while method != "close":
            method, *args = self._calls.get()
            try:
                getattr(self._tracker, method)(*args)
            except Exception as error:  # whatever it is, the training goes on
                self._fail(_reason(error))

    def _fail(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            self._say(f"{self._name} failed, training goes on: {reason}")


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return without_secrets(text)[:500]
