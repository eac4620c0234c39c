"""Progress events of a run: each is a line of text for people, or one JSON object for programs.

The library calls the `EventSink` that it is given and never prints; commands write the events to stderr
with `events_on_stderr`.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

from bisieve import console

FORMATS = ("text", "json")
FORMAT_VARIABLE = "BISIEVE_LOG"
PROGRESS = "progress"
OF_PROGRESS = (  # what is going on; all other events are warnings and errors
    PROGRESS, "making", "listed", "engine", "scanned", "rejected", "ranked", "written", "published",
    "unchanged",
)  # fmt: skip
PROGRESS_EVERY = console.PROGRESS_EVERY

_log = logging.getLogger("bisieve.events")


class EventSink(Protocol):
    """Function that receives the events of a run."""

    def __call__(self, event: str, text: str = "", **fields: Any) -> None:
        """Receive one event.

        Args:
            event: Its name, such as "scanned".
            text: The line for people; "" if they need none.
            fields: Its values for programs, by name.
        """
        ...


def null_sink(event: str, text: str = "", **fields: Any) -> None:
    """Discard the event."""


def ignored(number: int) -> None:
    """Count nothing: the default where a function could be given that of `counted`."""


def counted(emit: EventSink, stage: str, total: int, noun: str) -> Callable[[int], None]:
    """Return a function that emits a `PROGRESS` event with the sum of all numbers that it was called with.

    Args:
        emit: Receives the events.
        stage: What is going on, in a word.
        total: What the sum will be at the end.
        noun: What is counted, in the plural.
    """
    done = 0

    def add(number: int) -> None:
        nonlocal done
        done += number
        emit(PROGRESS, f"{stage}: {done:,} of {total:,} {noun}", stage=stage, tasks_done=done, tasks=total)

    return add


def log_format(asked: str | None) -> str:
    """Return the format ``asked`` for, else that of the variable ``BISIEVE_LOG``, else "text"."""
    return asked or ("json" if os.environ.get(FORMAT_VARIABLE) == "json" else "text")


@contextmanager
def events_on_stderr(form: str) -> Iterator[EventSink]:
    """Yield an `EventSink` that writes to stderr until the block ends.

    If the command is quiet, it writes warnings and errors alone.

    Args:
        form: One of `FORMATS`.
    """
    handler = _JsonLines(sys.stderr) if form == "json" else _Lines(sys.stderr)
    if not handler.has_bar:
        handler.addFilter(_Seldom(PROGRESS_EVERY))
    if console.is_quiet():
        handler.addFilter(lambda record: record.__dict__["event"] not in OF_PROGRESS)
    _log.setLevel(logging.INFO)
    _log.propagate = False
    _log.addHandler(handler)
    try:
        yield _emit
    finally:
        _log.removeHandler(handler)
        handler.close()


def _emit(event: str, text: str = "", **fields: Any) -> None:
    _log.info(text, extra={"event": event, "fields": fields})


class _JsonLines(logging.StreamHandler[TextIO]):
    """Handler that writes each event as one JSON line: event, ts (UTC), seconds, then its own fields.

    ``seconds`` counts from the start of the program.
    """

    has_bar = False

    def format(self, record: logging.LogRecord) -> str:
        head = {
            "event": record.__dict__["event"],
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "seconds": round(record.relativeCreated / 1000, 3),
        }
        return json.dumps({**head, **record.__dict__["fields"]}, ensure_ascii=False)


class _Lines(logging.StreamHandler[TextIO]):
    """Handler that writes the lines for people; on a terminal, progress is a bar below them."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.has_bar = console.has_bars(stream)
        self._bar: console.Bar | None = None  # made for the first progress event

    def emit(self, record: logging.LogRecord) -> None:
        text, fields = record.getMessage(), record.__dict__["fields"]
        if self.has_bar and record.__dict__["event"] == PROGRESS:
            self._bar = self._bar or console.Bar(self.stream)
            note = text.partition("; ")[2]
            self._bar.show(fields["stage"], fields["tasks_done"], fields["tasks"], note)
        elif text and self._bar:
            self._bar.print(text)
        elif text:
            console.show_on_stderr(text)

    def close(self) -> None:
        if self._bar:
            self._bar.close()
        super().close()


class _Seldom(logging.Filter):
    """Filter that passes one progress event per ``seconds``, and every other event."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._next = time.time() + seconds  # a shorter run shows no progress

    def filter(self, record: logging.LogRecord) -> bool:
        if record.__dict__["event"] != PROGRESS:
            return True
        passes = (now := time.time()) >= self._next
        if passes:
            self._next = now + self._seconds
        return passes
