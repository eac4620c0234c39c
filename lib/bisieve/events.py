"""What a run tells while it goes on: each event a line for people, or one JSON object for programs.

The library calls the `EventSink` that it is given and prints nothing by itself; commands tell on stderr.
"""

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

FORMATS = ("text", "json")
FORMAT_VARIABLE = "BISIEVE_LOG"
PROGRESS = "progress"
PROGRESS_EVERY = 10.0  # seconds, where it cannot rewrite its own line
_CLEAR = "\r\x1b[K"

_log = logging.getLogger("bisieve.events")


class EventSink(Protocol):
    """Takes an event: its name, the line for people (none: not for them), and its numbers by name."""

    def __call__(self, event: str, text: str = "", **fields: Any) -> None: ...


def null_sink(event: str, text: str = "", **fields: Any) -> None:
    """Tells nobody."""


def log_format(asked: str | None) -> str:
    """The format asked for, else the environment's, else text."""
    return asked or ("json" if os.environ.get(FORMAT_VARIABLE) == "json" else "text")


@contextmanager
def events_on_stderr(form: str) -> Iterator[EventSink]:
    """A `EventSink` whose events go to stderr, in one of `FORMATS`, until the block ends."""
    handler = _JsonLines(sys.stderr) if form == "json" else _Terminal(sys.stderr)
    if not handler.rewrites:
        handler.addFilter(_Seldom(PROGRESS_EVERY))
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
    """Every event as one line: event, ts (UTC), seconds since the program began, then its own numbers."""

    rewrites = False

    def format(self, record: logging.LogRecord) -> str:
        head = {
            "event": record.__dict__["event"],
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "seconds": round(record.relativeCreated / 1000, 3),
        }
        return json.dumps({**head, **record.__dict__["fields"]}, ensure_ascii=False)


class _Terminal(logging.StreamHandler[TextIO]):
    """The lines for people; on a terminal the progress rewrites its own."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.rewrites = stream.isatty()
        self._open = False  # the progress line has no end yet

    def emit(self, record: logging.LogRecord) -> None:
        if not (text := record.getMessage()):
            return
        self._clear()
        self._open = self.rewrites and record.__dict__["event"] == PROGRESS
        if self._open:
            text = text[: shutil.get_terminal_size().columns - 1]
        self.stream.write(text + ("" if self._open else "\n"))
        self.flush()

    def close(self) -> None:
        self._clear()
        super().close()

    def _clear(self) -> None:
        if self._open:
            self.stream.write(_CLEAR)
            self.flush()
            self._open = False


class _Seldom(logging.Filter):
    """Lets a progress through every so many seconds; everything else always."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._next = time.time() + seconds  # of a short run there is nothing to follow

    def filter(self, record: logging.LogRecord) -> bool:
        if record.__dict__["event"] != PROGRESS:
            return True
        passes = record.created >= self._next
        if passes:
            self._next = record.created + self._seconds
        return passes
