"""Say on a terminal now and then that a phase of a command goes on, so that it does not look stuck.

A phase, such as loading a model, begins with a line of its own and ends with the next line of any kind.
`bisieve.console` calls `begin` and `end`.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

EVERY = 10.0  # seconds between two lines in the first minute of a phase
_LATER = 60.0  # and after it


@dataclass
class Phase:
    """A phase that goes on."""

    text: str  # what is done, such as "loading the model"
    show: Callable[[str], None]  # prints a line
    begun: float  # time, in seconds
    due: float = EVERY  # seconds after its beginning when the next line is due

    def look(self, now: float) -> None:
        """Print a line if one is due at the time ``now``."""
        lasts = now - self.begun
        if lasts >= self.due:
            self.due = lasts + (EVERY if lasts < _LATER else _LATER)
            self.show(f"still {self.text} ({lasts:.0f} s)")


_current: Phase | None = None
_watcher: threading.Thread | None = None


def begin(text: str, show: Callable[[str], None]) -> None:
    """Begin a phase, which ends the one before.

    Args:
        text: What is done, as a participle: "loading the model".
        show: Prints a line; it must not call `end`.
    """
    global _current, _watcher
    _current = Phase(text, show, time.monotonic())
    if _watcher is None:
        _watcher = threading.Thread(target=_watch, name="phases", daemon=True)
        _watcher.start()


def end() -> None:
    """End the current phase, if there is one."""
    global _current
    _current = None


def _watch() -> None:
    while True:
        time.sleep(1)
        if (phase := _current) is not None:
            phase.look(time.monotonic())
