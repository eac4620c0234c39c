"""An index as users see it: one version of a ranked corpus."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bisieve._text import pluralize
from bisieve.api.selection import Selection, table_as_html
from bisieve.engines import Asked, choose_engine
from bisieve.events import EventSink, null_sink
from bisieve.index import reader, selection, versions
from bisieve.index.exclusion import NOTHING, Exclusion, read_exclusion
from bisieve.index.reader import Kind, open_part
from bisieve.index.statistics import Statistics, index_statistics
from bisieve.index.writer import REPORTED
from bisieve.io.storage import StoredFile
from bisieve.records.options import AUTO, EXCLUDE, Parameters, check_ranking, parse_fraction
from bisieve.schemas import REJECTS
from bisieve.tools.report import NOTED, report_document, score_report

if TYPE_CHECKING:
    from bisieve.report.lookup import LookedUp

DEFAULT_FRACTION = 0.25  # of the selection in a report
_SHOWN = ["source", "rollouts", "steps", "mixed", "all_positive", "all_negative", "tie_block"]


@dataclass(frozen=True)
class Index:
    """One version of a ranked index; it stays readable when later versions are published."""

    opened: reader.Index = field(repr=False)
    name: str  # the URL as it was given
    written: bool | None = None  # whether the call that returned it published it; None if it was only opened

    @property
    def url(self) -> str:
        """Return the canonical URL."""
        return self.opened.url

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the shards and parameters of this version; 64 hex digits."""
        return self.opened.fingerprint

    @property
    def parameters(self) -> Parameters:
        """Return the parameters of the ranking."""
        return self.opened.manifest.parameters

    @property
    def sources(self) -> pa.Table:
        """Return a row per source, `schemas.SOURCES`: rollouts, steps, mixture, ties, rejects, cutoffs."""
        return self.opened.sources

    def __len__(self) -> int:
        """Return the number of usable rollouts."""
        return self.opened.manifest.rollouts

    def rejects(self) -> pa.Table:
        """Return the rejected records, `schemas.REJECTS`, by shard and offset, each with its reason."""
        tables = [REJECTS.empty_table()]
        for file in self.opened.rejects:
            with open_part(self.url, file) as part:
                tables.append(part.read(use_threads=False))
        return pa.concat_tables(tables)

    def select(
        self,
        fraction: float | str,
        *,
        engine: Asked = "auto",
        progress: EventSink = null_sink,
        engine_options: dict[str, Any] | None = None,
        exclude: str | None = None,
        **ranking: Any,
    ) -> Selection:
        """Select the best share of each source, or of all sources by the index's scope (paper §4).

        Args:
            fraction: In (0, 1], or a percentage such as ``"10%"``.
            engine: What ranks more than 4,000,000 rollouts by other options; as of `bisieve.score`.
            progress: As of `bisieve.score`.
            engine_options: As of `bisieve.score`.
            exclude: URL of a text file with one rollout_id a line. The selection is that of a corpus without
                these rollouts.
            ranking: Options by which to select, where they differ from those that the index is ranked by:
                ``strategy``, ``alpha`` (or ``"auto"``), ``threshold``, ``pair_share``, ``scope``, ``ties``,
                ``all_negative``, ``seed``. The index is not changed; its rollouts are ranked in memory, or
                on the engine if they are many.

        Raises:
            UsageError: The fraction is neither, or an option has no such value.
        """
        check_ranking({name: value for name, value in ranking.items() if (name, value) != ("alpha", AUTO)})
        open_engine = choose_engine(engine, emit=progress, **(engine_options or {}))
        return Selection(self.opened, parse_fraction(fraction), ranking, open_engine, progress, exclude)

    def versions(self) -> list[versions.Version]:
        """Return all versions that have not been removed, the newest first."""
        return versions.versions(self.opened)

    def before(self) -> "Index | None":
        """Return the version that was published before this one, the current one; None if there is none."""
        found = versions.version_before(self.opened)
        return None if found is None else Index(found, self.name)

    def clean(self, older_than: float, dry_run: bool = False) -> list[StoredFile]:
        """Remove files that neither the current version nor the last that passed the gate needs.

        Args:
            older_than: Smallest age of the files, in seconds.
            dry_run: Remove nothing.

        Returns:
            The files that were, or would be, removed.
        """
        return (versions.unreferenced if dry_run else versions.clean)(self.opened, older_than)

    def glob(self, kind: Kind = "rollouts") -> str:
        """Return the pattern of the Parquet files of one kind, for DuckDB, Polars and others."""
        return self.opened.glob(kind)

    def statistics(self) -> Statistics:
        """Return statistics of all rollouts: labels, questions, and how well position tells the label."""
        return index_statistics(self.opened)[0]

    def report(
        self, fractions: Sequence[float] = NOTED, *, exclude: str | None = None, **ranking: Any
    ) -> str:
        """Return the tables that ``bisieve score`` and ``bisieve report`` print.

        Args:
            fractions: Selections to describe.
            exclude: As of `select`.
            ranking: As of `select`.
        """
        chosen = self._selected(fractions, {EXCLUDE: exclude, **ranking})
        exclusion = self._excluding(exclude)
        return score_report(self.opened, self.name, self.written, fractions, chosen, exclusion)

    def numbers(
        self, fractions: Sequence[float] = REPORTED, *, exclude: str | None = None, **ranking: Any
    ) -> dict[str, Any]:
        """Return the numbers of the report, as ``--json`` prints them.

        Args:
            fractions: Selections to describe.
            exclude: As of `select`.
            ranking: As of `select`.
        """
        chosen = self._selected(fractions, {EXCLUDE: exclude, **ranking})
        exclusion = self._excluding(exclude)
        return report_document(self.opened, self.name, self.written, fractions, chosen, exclusion)

    def write_html(
        self, url: str, fraction: float | str = DEFAULT_FRACTION, *, image_root: str | None = None,
        other: "Index | None" = None, exclude: str | None = None, **ranking: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Write a report of a selection as one HTML file that opens offline.

        Args:
            url: URL of the file.
            fraction: Selection to report, as of `select`.
            image_root: URL below which the images of the shown rollouts are; None: only those inside the
                records are shown.
            other: Another index whose selection of the same fraction is compared with this one.
            exclude: As of `select`.
            ranking: As of `select`.

        Returns:
            All numbers of the report, as ``--json`` prints them.

        Raises:
            UsageError: A value is out of range, or ``url`` is inside an index or a shard.
            IndexUnusableError: A file of an index is missing or damaged.
            StorageError: The file cannot be written.
        """
        from bisieve.report.collect import collect
        from bisieve.report.html import plain, write_page
        from bisieve.report.index_page import index_page
        from bisieve.tools.export import check_target

        for index in (self, *([] if other is None else [other])):
            check_target(index.opened, url, flag="--html")
        fraction = self.select(fraction, **ranking).fraction  # which checks both
        beside = None if other is None else (other.opened, other.name)
        exclusion = self._excluding(exclude)
        report = collect(self.opened, self.name, fraction, ranking, image_root, beside, exclusion)
        page = index_page(report)
        write_page(page, url)
        numbers: dict[str, Any] = plain({**page.numbers, **report.numbers()})
        return numbers

    def look_up(
        self, rollout_id: str, fraction: float | str = DEFAULT_FRACTION, *, source: str | None = None,
        image_root: str | None = None, image_size: tuple[int, int] | None = None, exclude: str | None = None,
        **ranking: Any,
    ) -> "LookedUp":  # fmt: skip
        """Return a rollout with its text, its place in the ranking, and the others of its question.

        Args:
            rollout_id: Its id in the index.
            fraction: Selection that keeps or drops it, as of `select`.
            source: Its source, where rollouts of several have this id; else the first of them is shown.
            image_root: URL below which its images are; None: only those inside the record are read.
            image_size: Most pixels of these, width and height; by default those of a page.
            exclude: As of `select`.
            ranking: As of `select`.

        Raises:
            UsageError: No rollout has this id, or a value is out of range.
            IndexUnusableError: A file of the index is missing or damaged.
        """
        from bisieve.report.lookup import look_up
        from bisieve.report.reading import SMALL
        from bisieve.report.rows import open_view

        fraction = self.select(fraction, **ranking).fraction  # which checks both
        view = open_view(self.opened, fraction, ranking, self._excluding(exclude))
        return look_up(view, rollout_id, source, image_root, image_size or SMALL)

    def explore(
        self, ready: Callable[[str], None], fraction: float | str = DEFAULT_FRACTION, *,
        image_root: str | None = None, port: int = 0, exclude: str | None = None, **ranking: Any,
    ) -> None:  # fmt: skip
        """Serve a page to look at the rollouts, on this machine only, until Ctrl-C.

        Args:
            ready: Called with the URL of the page, which has a token, when it can be opened.
            fraction: Selection that is shown at first, as of `select`.
            image_root: URL below which the images are; None: only those inside the records are shown.
            port: 0: any free one.
            exclude: URL of a file of ids; they are marked at first, and it is kept up to date.
            ranking: As of `select`.

        Raises:
            UsageError: A value is out of range, the port is not free, or the index is too large to be ranked
                in memory.
            IndexUnusableError: A file of the index is missing or damaged.
        """
        from bisieve.explore.server import serve
        from bisieve.explore.session import Session, Start
        from bisieve.io.disk import passing_folder

        fraction = self.select(fraction, **ranking).fraction  # which checks both
        start = Start(self.opened, self.name, fraction, ranking, exclude, image_root)
        with passing_folder("explore") as folder:
            session = Session(start, folder)
            try:
                serve(session, port, ready)
            finally:
                session.questions.stop()

    def _selected(self, fractions: Sequence[float], ranking: dict[str, Any]) -> list[selection.Selection]:
        if ranking == {EXCLUDE: None}:
            return []  # as the index is ranked
        return [self.select(fraction, **ranking).selected for fraction in fractions]

    def _excluding(self, url: str | None) -> Exclusion:
        return read_exclusion(self.opened, url) if url else NOTHING

    def __repr__(self) -> str:
        """Return one line with version, number of rollouts and of sources."""
        rollouts, sources = pluralize(len(self), "rollout"), pluralize(self.sources.num_rows, "source")
        return f"<Index {self.name}: version {self.fingerprint[:16]}, {rollouts} of {sources}>"

    def _repr_html_(self) -> str:
        return table_as_html(repr(self), self.sources.select(_SHOWN))
