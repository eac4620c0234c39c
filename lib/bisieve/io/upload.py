"""Uploads of local files, with retries for longer than the usual limit."""

import time
from collections.abc import Callable
from pathlib import Path

from bisieve.errors import StorageError
from bisieve.io import storage
from bisieve.io.errors import storage_errors
from bisieve.io.retry import FIRST_PAUSE, is_transient, say_retry

LONGEST_PAUSE = 30.0  # seconds between two tries
PIECE = 16 << 20  # bytes read and written at once

Progress = Callable[[], None]


def no_one() -> None:
    """Do nothing: the default `Progress`."""


class Persistence:
    """Retries of transient store failures until ``budget`` seconds are spent on failures.

    The budget counts failed tries and the pauses after them, and is shared by all calls of one object.
    """

    def __init__(self, budget: float) -> None:
        self._left = budget

    def __call__(self, work: Callable[[], None]) -> None:
        """Call ``work`` until it succeeds; each retry is logged.

        Raises:
            StorageError: The failure is not transient, or the budget is spent.
        """
        pause, number = FIRST_PAUSE, 1
        while True:
            begun = time.monotonic()
            try:
                return work()
            except StorageError as error:
                self._left -= time.monotonic() - begun + pause
                may_pass = isinstance(error.__cause__, Exception) and is_transient(error.__cause__)
                if not may_pass or self._left < 0:
                    raise
                number += 1
                say_retry("upload", number, error, pause)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def upload(file: Path, url: str, progress: Progress = no_one) -> None:
    """Copy a local file to ``url`` in pieces of `PIECE` bytes, and call ``progress`` after each."""
    with file.open("rb") as source, storage.open_output(url) as target:
        while piece := source.read(PIECE):
            with storage_errors(url):  # a write may upload a part of a large file
                target.write(piece)
            progress()
