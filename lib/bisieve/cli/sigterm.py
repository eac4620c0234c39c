"""Let SIGTERM, which schedulers send, end a command as Ctrl-C does."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def sigterm_as_interrupt(terminated: list[int]) -> Iterator[None]:
    """Let SIGTERM end the ``with`` block as Ctrl-C would at that moment.

    Does nothing outside the main thread, or if SIGTERM has a handler already. The default handler is restored
    at the end.

    Args:
        terminated: Each SIGTERM is appended, so that the caller can tell it from Ctrl-C.
    """

    def on_sigterm(number: int, frame: Any) -> None:
        terminated.append(number)
        on_interrupt = signal.getsignal(signal.SIGINT)
        if not callable(on_interrupt):
            raise KeyboardInterrupt
        on_interrupt(signal.SIGINT, frame)

    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
