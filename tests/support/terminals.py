"""Stdout as a terminal."""

import io
from collections.abc import Callable
from contextlib import redirect_stdout


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def on_terminal(act: Callable[[], object]) -> str:
    """Return what ``act`` prints on stdout if that is a terminal."""
    with redirect_stdout(Terminal()) as stream:
        act()
    return stream.getvalue()
