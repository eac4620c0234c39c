"""How bisieve prints: on a terminal, tables and progress bars of rich; elsewhere, plain lines.

`show` prints a result, `status` a line about what is going on, `phase` one about what may take long,
`show_on_stderr` an error or a warning, and `progress` how much of something is done. On a terminal all are
at most `WIDTH` columns wide, and with ``NO_COLOR`` there are no escape codes. `quiet` switches off `status`,
`phase` and `progress` for a command.

A file, a pipe or a terminal with ``TERM=dumb`` gets plain lines, and rich is not imported. The lines are not
wrapped word by word, since programs search in them: on stderr a message is one line, and on stdout a line
that is wider than `WIDTH` is broken after a punctuation mark (`bisieve._text.clauses`). Only names, paths and
the text of a corpus are wider than that, so no phrase of bisieve itself may be.
"""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from bisieve._text import WIDTH, Graded, Quoted, Report, Table, clauses, wrapped

PROGRESS_EVERY = 10.0  # seconds between lines of progress where there is no bar
PHASE_EVERY = 10.0  # seconds between two lines about a phase, as long as it has lasted less than `_LATER`
_LATER = 60.0  # seconds; then also those between two lines
_WRONG, _RIGHT = (230, 159, 0), (0, 150, 210)  # RGB: orange and blue, as in reports
_WORDS = {"ok": "green", "PASSED": "green", "warning": "yellow", "failed": "red", "FAILED": "red"}

_is_quiet = False  # of the process: the lines of a training come from several threads


@contextmanager
def quiet(asked: bool) -> Iterator[None]:
    """Switch off `status`, `phase` and `progress` in the block if ``asked``; all else is printed."""
    global _is_quiet
    before, _is_quiet = _is_quiet, _is_quiet or asked
    try:
        yield
    finally:
        _is_quiet = before


def is_quiet() -> bool:
    """Return whether progress is not to be printed."""
    return _is_quiet


def is_terminal(stream: TextIO) -> bool:
    """Return whether ``stream`` is a terminal, for which lines are wrapped and tables are laid out."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def has_bars(stream: TextIO) -> bool:
    """Return whether ``stream`` is a terminal that may get escape codes, which colours and bars need."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def status(text: str) -> None:
    """Print on stdout what is going on, unless the command is quiet."""
    if not _is_quiet:
        show(text)


def status_on_stderr(text: str) -> None:
    """Print on stderr what is going on, unless the command is quiet; for a command whose stdout is data."""
    if not _is_quiet:
        show_on_stderr(text)


def phase(text: str, on_stderr: bool = False) -> None:
    """Print what may take long; a terminal gets a line every ten seconds until something else is printed.

    Args:
        text: What is done, as a participle: "loading the model".
        on_stderr: Print on stderr; for a command whose stdout is data.
    """
    (status_on_stderr if on_stderr else status)(text)
    if not _is_quiet and is_terminal(sys.stderr if on_stderr else sys.stdout):
        _begin_phase(text, _print_on_stderr if on_stderr else _print)


@dataclass
class Phase:
    """A phase that goes on; it ends with the next line of any kind."""

    text: str  # what is done, such as "loading the model"
    show: Callable[[str], None]  # prints a line, and does not end the phase
    begun: float  # time, in seconds
    due: float = PHASE_EVERY  # seconds after its beginning when the next line is due

    def look(self, now: float) -> None:
        """Print a line if one is due at the time ``now``."""
        lasts = now - self.begun
        if lasts >= self.due:
            self.due = lasts + (PHASE_EVERY if lasts < _LATER else _LATER)
            self.show(f"still {self.text} ({lasts:.0f} s)")


_current: Phase | None = None
_watcher: threading.Thread | None = None


def _begin_phase(text: str, show: Callable[[str], None]) -> None:
    """Begin a phase, which ends the one before."""
    global _current, _watcher
    _current = Phase(text, show, time.monotonic())
    if _watcher is None:
        _watcher = threading.Thread(target=_watch, name="phases", daemon=True)
        _watcher.start()


def _end_phase() -> None:
    global _current
    _current = None


def _watch() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # it is for the main thread alone
    while True:
        time.sleep(1)
        if (phase := _current) is not None:
            phase.look(time.monotonic())


def show_on_stderr(text: str) -> None:
    """Print a line on stderr, such as an error; a terminal gets it wrapped."""
    _end_phase()
    _print_on_stderr(text)


def _print_on_stderr(text: str) -> None:
    lines = wrapped(text, _columns()) if is_terminal(sys.stderr) else [text]
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def show(report: str) -> None:
    """Print a result on stdout; a terminal gets the tables of a `Report` with lines and colours."""
    _end_phase()
    _print(report)


def _print(report: str) -> None:
    if not is_terminal(sys.stdout):
        print(report if isinstance(report, Report) else clauses(report), flush=True)
        return
    console = _console(sys.stdout)
    for block in report.blocks if isinstance(report, Report) else (report,):
        if isinstance(block, Table):
            console.print(_laid_out(block, console.width))
        elif isinstance(block, Graded):
            _print_graded(console, block)
        else:
            _print_text(console, block)


def show_row(cells: Sequence[str], widths: Sequence[int]) -> None:
    """Print a row of a table whose other rows are not known yet; without a terminal it is one line.

    Args:
        cells: Texts; the last one fills the rest of the line, and on a terminal is wrapped in its column.
        widths: Least columns of each cell but the last.
    """
    _end_phase()
    if not is_terminal(sys.stdout):
        first = [cell.ljust(width) for cell, width in zip(cells[:-1], widths, strict=True)]
        print(*first, cells[-1], flush=True)
        return
    from rich.table import Table as Grid

    grid = Grid.grid(padding=(0, 1, 0, 0))
    for width in widths:
        grid.add_column(min_width=width, no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(*map(_styled, cells))
    _console(sys.stdout).print(grid)


class Bar:
    """A progress bar with the time left; it stays below the other lines, and disappears when closed.

    Lines that are printed on the terminal meanwhile appear above it. Only `show` redraws it, so no thread is
    needed.

    Args:
        stream: A terminal, for which `has_bars` is true.
    """

    def __init__(self, stream: TextIO) -> None:
        from rich import progress

        self._bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=20),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}"),
            console=_console(stream),
            auto_refresh=False,
            transient=True,
            speed_estimate_period=600,
            redirect_stdout=stream is sys.stdout,
            redirect_stderr=has_bars(sys.stderr),
        )
        self._what: str | None = None
        self._bars.start()

    def show(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show that ``done`` of ``total`` are done.

        Args:
            what: What is done; a new one starts a new bar.
            done: How many are done.
            total: How many there are.
            note: More about it.
        """
        _end_phase()
        if what != self._what:
            for task in self._bars.task_ids:
                self._bars.remove_task(task)
            self._bars.add_task(what, total=total, note=note)
            self._what = what
        self._bars.update(self._bars.task_ids[0], completed=done, total=total, note=note)
        self._bars.refresh()

    def print(self, text: str) -> None:
        """Print a text above the bar."""
        _print_text(self._bars.console, text)

    def close(self) -> None:
        """Remove the bar."""
        self._bars.stop()


@contextmanager
def progress(
    what: str, total: int, lines: bool = False, on_stderr: bool = False
) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows on stdout how many of ``total`` are done, unless the command is quiet.

    Args:
        what: What is done.
        total: How many there are.
        lines: Where no bar is possible, print a line every `PROGRESS_EVERY` seconds; by default nothing.
        on_stderr: Show it on stderr; for a command whose stdout is data.
    """
    _end_phase()
    bar: Bar | None = None
    stream = sys.stderr if on_stderr else sys.stdout
    has_bar = has_bars(stream)
    due = time.monotonic() + PROGRESS_EVERY

    def shown(done: int) -> None:
        nonlocal bar, due
        if not done or _is_quiet:
            return  # the bar appears when the first one is done
        if has_bar:
            bar = bar or Bar(stream)
            bar.show(what, min(done, total), total)
        elif lines and time.monotonic() >= due:
            (show_on_stderr if on_stderr else show)(f"{what}: {done:,} of {total:,}")
            due = time.monotonic() + PROGRESS_EVERY

    try:
        yield shown
    finally:
        if bar:
            bar.close()


def _console(stream: TextIO) -> Any:
    """Return rich's console for a terminal; without colours it gives no style any code, not even bold."""
    from rich.console import Console

    return Console(
        file=stream, force_terminal=True, color_system="auto" if has_bars(stream) else None,
        width=_columns(), highlight=False, markup=False, emoji=False,
    )  # fmt: skip


def _columns() -> int:
    return min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH)


def _print_text(console: Any, text: str) -> None:
    for part in wrapped(text if isinstance(text, Quoted) else clauses(text), console.width):
        console.print(_styled(part), soft_wrap=True)


def _print_graded(console: Any, block: Graded) -> None:
    from rich.text import Text

    mixed = (round(one + (other - one) * block.share) for one, other in zip(_WRONG, _RIGHT, strict=True))
    label = Text(f"{block.label}  ", style=f"rgb({','.join(map(str, mixed))})")
    console.print(Text.assemble(label, block.text))


def _styled(text: str) -> Any:
    from rich.text import Text

    word = text.partition(":")[0]
    styled = Text(text)
    if word in _WORDS:
        styled.stylize(_WORDS[word], 0, len(word))
    return styled


def _laid_out(table: Table, width: int) -> Any:
    """Return a table of rich for ``width`` columns; long names are wrapped, numbers are not."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    gap = 1 if len(str(table).partition("\n")[0]) <= width else 0  # beside the one that the box has
    laid_out = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, gap, 0, 0))
    for place, name in enumerate(table.head):
        first = place == 0
        laid_out.add_column(
            name,
            justify="left" if first else "right",
            no_wrap=not first,
            overflow="fold" if first else "ellipsis",
        )
    for row in table.rows:
        laid_out.add_row(*map(Text, row))
    return laid_out
