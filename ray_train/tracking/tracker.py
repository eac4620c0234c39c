"""What a tracker is told and what it does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


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
