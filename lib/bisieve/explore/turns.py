"""Lets requests go first: work in the background waits while one is answered."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

_LONGEST = 5.0  # seconds that the background waits at once, so that it ends even if somebody always asks


class Turns:
    """Counts the requests that are being answered."""

    def __init__(self) -> None:
        self._changed, self._asked = Condition(), 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Answer a request in this block."""
        with self._changed:
            self._asked += 1
        try:
            yield
        finally:
            with self._changed:
                self._asked -= 1
                self._changed.notify_all()

    def wait(self, longest: float = _LONGEST) -> None:
        """Wait until no request is being answered, ``longest`` seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._asked, longest)
