"""Ctrl-C while Spark runs."""

import logging
import signal
import threading
from typing import Any


class Interrupts:
    """Ctrl-C is held back while Spark starts and ends; in between it is what the block raises.

    A Spark interrupted while it starts leaves its JVM behind.  One interrupted at work has dying workers and
    broken connections to report: Ctrl-C is the reason, so nothing else is told.
    """

    def __init__(self) -> None:
        self.came = False
        self._held = True
        self._before: Any = None

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._take_over()
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self.came:
            raise KeyboardInterrupt

    def let_through(self) -> None:
        """From here on Ctrl-C ends the block at once."""
        self._held = False
        if self._before is not None:
            self._take_over()  # Spark's start has put in a handler of its own, which asks the JVM first
        if self.came:
            raise KeyboardInterrupt

    def hold(self) -> None:
        """From here on Ctrl-C waits."""
        self._held = True

    def _take_over(self) -> None:
        before = signal.signal(signal.SIGINT, self._on_interrupt)
        self._before = self._before or before

    def _on_interrupt(self, number: int, frame: object) -> None:
        self.came = True
        # py4j logs tracebacks of the calls that are cut off, some with the root logger.
        logging.getLogger().addFilter(lambda record: False)
        logging.getLogger("py4j").setLevel(logging.CRITICAL)
        if not self._held:
            raise KeyboardInterrupt
