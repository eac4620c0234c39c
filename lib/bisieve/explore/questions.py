"""Read the text of all questions in the background, one rollout a question, so that it can be searched.

Requests go first (`Turns`): the background waits while one is answered.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from threading import Condition, Event, Lock, Thread

import pyarrow as pa

from bisieve._text import pluralize
from bisieve.errors import BisieveError
from bisieve.explore.catalog import Catalog
from bisieve.report.reading import Unanswered, read_texts
from bisieve.report.rows import View
from bisieve.shards.fetch import in_chunks

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


class QuestionReader:
    """Reads questions in a thread, while nobody asks for something else.

    Args:
        catalog: Gets the text.
        view: Of the index.
        turns: Of the requests, which go first: else a search would take two to three times as long.
    """

    def __init__(self, catalog: Catalog, view: View, turns: Turns) -> None:
        self._catalog, self._view, self._turns = catalog, view, turns
        self._done, self._total, self._missing, self._problem, self._is_finished = 0, 0, 0, "", False
        self._stopped, self._beginning, self._unanswered = Event(), Lock(), Unanswered()
        self._thread = Thread(target=self._run, name="read-questions", daemon=True)

    @property
    def progress(self) -> dict[str, int | str | bool]:
        """Return how many questions of how many were looked at, and what could not be read of them."""
        missing = f"{self._missing:,} of {pluralize(self._total, 'question')}: " if self._missing else ""
        return {
            "done": self._done, "total": self._total, "note": f"{missing}{self._problem}",
            "is_finished": self._is_finished,
        }  # fmt: skip

    def begin(self) -> None:
        """Begin to read; nothing happens if it has begun."""
        with self._beginning:
            if self._thread.ident is None:
                self._thread.start()

    def stop(self) -> None:
        """Stop reading, and wait for it, but not for a store that does not answer."""
        self._stopped.set()
        self._catalog.interrupt_background()
        if self._thread.is_alive():
            self._thread.join(_LONGEST)

    def wait(self) -> None:
        """Wait until all is read."""
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._catalog.first_of_questions() as (self._total, tables):
                for chunk in chain.from_iterable(map(in_chunks, tables)):
                    self._turns.wait()
                    if self._stopped.is_set():
                        return
                    self._read(chunk)
        except BisieveError as error:
            self._problem = str(error)
        finally:
            self._is_finished = True

    def _read(self, rows: pa.Table) -> None:
        found, problem = read_texts(self._view, rows, unanswered=self._unanswered)
        names = [
            (question_id, rollout.question)
            for question_id, rollout in zip(rows["question_id"].to_pylist(), found, strict=True)
            if rollout is not None
        ]
        self._catalog.add_questions(
            pa.table({
                "question_id": pa.array([name for name, _ in names], pa.string()),
                "question": pa.array([text for _, text in names], pa.string()),
            })
        )  # fmt: skip
        self._done += rows.num_rows
        self._missing += found.count(None)
        self._problem = self._problem or problem
