"""What one `bisieve explore` shows: an index, a selection that can change, and ids marked to leave out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

from bisieve._text import did_you_mean
from bisieve.errors import UsageError
from bisieve.explore.catalog import Catalog
from bisieve.explore.filters import IN, KINDS, SORTED_BY, Filters
from bisieve.explore.questions import QuestionReader, Turns
from bisieve.index.exclusion import exclusion_of, ids_in, ids_text
from bisieve.index.reader import Index, incomplete, missing_files
from bisieve.io.storage import exists, require_writable_file, write_bytes
from bisieve.io.urls import canonical
from bisieve.ranking.strategies import strategy_names, strategy_of
from bisieve.records.options import ALL_NEGATIVE, AUTO, PAIR_SHARE, TIES, parse_fraction
from bisieve.report.lookup import opened
from bisieve.report.reading import FULL, Beginnings
from bisieve.report.rows import View, open_view
from bisieve.tools.export import check_target

PAGE = 50  # rollouts
_MOST_ROWS = 500  # of a request
_MOST_MARKED = 1_000_000  # ids


@dataclass(frozen=True)
class Start:
    """What a session begins with."""

    index: Index
    name: str  # the URL of the index as the user gave it
    fraction: float
    asked: Mapping[str, Any]  # options of the selection, by name, where they differ from the index's
    exclude: str | None = None  # URL of the file of marked ids, which is kept up to date
    image_root: str | None = None


class Session:
    """The state behind a page; its methods may be called from several threads.

    Args:
        start: What it begins with.
        folder: For files that are deleted at its end.

    Raises:
        UsageError: A value is out of range, or the index is too large to be ranked in memory.
        StorageError: The file of marked ids cannot be written.
        IndexUnusableError: A file of the index is missing or damaged.
    """

    def __init__(self, start: Start, folder: Path) -> None:
        index = start.index
        if not index.manifest.rollouts:
            raise UsageError(f"an index with rollouts at {start.name}", "none", "bisieve report tells why")
        if lost := missing_files(index):
            raise incomplete(index, lost[0])
        self.start, self._lock, self.number = start, Lock(), 0
        self.view = open_view(index, start.fraction, start.asked)
        self._asked: Mapping[str, Any] = start.asked
        self._without_marked = False
        self.catalog = Catalog(index, folder, self.view)
        if start.exclude:
            check_target(index, start.exclude, flag="--exclude")
            require_writable_file(canonical(start.exclude))
        self._in_file = self._read_file()
        self.catalog.mark(sorted(self._in_file), True)
        self.turns = Turns()
        self.questions = QuestionReader(self.catalog, View(index, 1.0, None), self.turns)

    def about(self) -> dict[str, Any]:
        """Return what the page needs once."""
        manifest = self.start.index.manifest
        return {
            "index": self.start.name,
            "version": manifest.fingerprint[:16],
            "rollouts": manifest.rollouts,
            "sources": self.start.index.rollouts_by_source,
            "rejected": manifest.rejected,
            "strategies": {name: _options_of(name) for name in strategy_names()},
            "own_strategy": manifest.parameters.strategy,
            "own_ties": manifest.parameters.ties,
            "ties": TIES,
            "all_negative": ALL_NEGATIVE,
            "selected": list(IN),
            "kinds": list(KINDS),
            "sorted_by": SORTED_BY,
            "page": PAGE,
            "exclude": self.start.exclude,
            "asked": dict(self.start.asked),
            **self.state(),
        }

    def state(self) -> dict[str, Any]:
        """Return the selection that is shown, and what has moved since the first one."""
        with self._lock:
            return {
                "number": self.number,
                "fraction": self.view.fraction,
                "parameters": msgspec.to_builtins(self.view.parameters),
                "without_marked": self._without_marked,
                "marked": self.catalog.number_marked,
                "moved": self.catalog.moved(),
            }

    def select(self, fraction: float | str, asked: Mapping[str, Any], without_marked: bool) -> dict[str, Any]:
        """Show another selection; return its `state`.

        Args:
            fraction: Share of rollouts, as a number or a percentage.
            asked: Options by name, of `options.RANKING`; those that are not named are as the index has them.
            without_marked: Whether the marked rollouts are left out.

        Raises:
            UsageError: A value is out of range, or the index is too large to be ranked in memory.
        """
        share = parse_fraction(fraction)
        if (strategy := asked.get("strategy", "bis")) not in strategy_names():
            hint = did_you_mean(strategy, strategy_names()) or "correct it"
            raise UsageError(f"one of {', '.join(strategy_names())} as strategy", strategy, hint)
        with self._lock:
            index = self.start.index
            exclusion = exclusion_of(index, self.catalog.marked if without_marked else ())
            is_same = asked == self._asked and asked.get("alpha") != AUTO
            if is_same and not without_marked and not self._without_marked:
                view = View(index, share, self.view.in_memory)  # the ranking stays
            else:
                view = open_view(index, share, asked, exclusion)
            self.catalog.show(view)
            self._asked, self._without_marked = dict(asked), without_marked
            self.view, self.number = view, self.number + 1
        return self.state()

    def rollouts(self, filters: Filters, by: str, descending: bool, first: int, rows: int) -> dict[str, Any]:
        """Return a page of the rollouts that pass the filters, with their counts.

        Raises:
            UsageError: There is no column ``by``.
        """
        found, counts = self.catalog.find(
            filters, by, descending, max(first, 0), min(max(rows, 1), _MOST_ROWS)
        )
        progress = self.questions.progress
        return {"number": self.number, "rows": found, "counts": counts, "questions": progress}

    def rollout(self, source: str, rank: int, number: int) -> dict[str, Any]:
        """Return all that is shown of one rollout, its images as data URLs.

        Args:
            source: Its source.
            rank: Its rank in the selection that is shown.
            number: Of that selection, `state`: with another one, ranks are others.

        Raises:
            UsageError: There is none, or another selection is shown meanwhile.
        """
        with self._lock:
            view, now = self.view, self.number
        if number != now:
            raise UsageError("the selection that is shown", "an older one", "load the page again")
        rows = view.at({source: {rank}})
        if rows.num_rows != 1:
            raise UsageError("a rollout of the index", f"none with rank {rank} in {source}", "choose another")
        found = opened(view, rows, self.start.image_root, FULL)
        marked = self.catalog.is_marked(found.example.row["rollout_id"])
        return {**found.numbers(), "pictures": list(found.example.images), "marked": marked}

    def mark(self, ids: Sequence[str], is_marked: bool) -> dict[str, Any]:
        """Mark ids to be left out, or unmark them; return how many are marked.

        Raises:
            UsageError: An id has a line break, so that no file can have it.
            StorageError: The file of the ids cannot be written.
        """
        ids_text(ids)
        with self._lock:
            self.catalog.mark(ids, is_marked)
            return self._saved()

    def mark_all(self, filters: Filters, is_marked: bool) -> dict[str, Any]:
        """Mark the ids of all rollouts that pass the filters, or unmark them; return how many are marked.

        Raises:
            UsageError: They are too many, or an id has a line break.
            StorageError: The file of the ids cannot be written.
        """
        passing = self.catalog.counts(filters)["rollouts"]
        if is_marked and passing > _MOST_MARKED:
            raise UsageError(
                f"at most {_MOST_MARKED:,} rollouts to mark at once", f"{passing:,}", "filter more"
            )
        if is_marked:
            ids_text(self.catalog.unwritable_id(filters))
        with self._lock:
            self.catalog.mark_all(filters, is_marked)
            return self._saved()

    def _read_file(self) -> set[str]:
        url = self.start.exclude
        return ids_in(url) if url and exists(canonical(url)) else set()

    def _saved(self) -> dict[str, Any]:
        if self.start.exclude:
            now = self._read_file()  # which another page, or an editor, may have changed
            self.catalog.mark(sorted(now - self._in_file), True)
            self.catalog.mark(sorted(self._in_file - now), False)
            marked = self.catalog.marked
            write_bytes(canonical(self.start.exclude), ids_text(marked).encode())
            self._in_file = set(marked)
        return {"marked": self.catalog.number_marked, "file": self.start.exclude}

    def marked(self) -> str:
        """Return the marked ids, one a line."""
        return ids_text(self.catalog.marked)

    def ids(self, filters: Filters) -> Iterator[str]:
        """Return the ids of the rollouts that pass the filters, one a line, in chunks.

        Raises:
            UsageError: An id has a line break, so that no file can have it.
        """
        ids_text(self.catalog.unwritable_id(filters))
        return self.catalog.ids(filters)

    def rejects(self, source: str, reason: str, first: int) -> list[dict[str, Any]]:
        """Return a page of the rejected records, with the beginning of each where it can be read."""
        if not self.start.index.rejects:
            return []
        found = self.catalog.rejects(source, reason, max(first, 0), PAGE)
        beginnings = Beginnings()
        return [{**row, "begins": beginnings.of(row["shard"], row["offset"], row["length"])} for row in found]


def _options_of(name: str) -> list[str]:
    """Return the options of a ranking that have an effect with a strategy, beside those that always have."""
    strategy = strategy_of(name)
    own = [option for option in ("seed", PAIR_SHARE) if option in strategy.options]
    by_order = ["seed"] if strategy.shuffled else ["ties"]
    return [*(["alpha"] if strategy.uses_alpha else []), *by_order, *own]
