"""A selection as users see it: a table of rollouts, and what writes them with their text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bisieve._text import percent, pluralize
from bisieve.engines import choose_engine
from bisieve.events import EventSink, null_sink
from bisieve.index import selection
from bisieve.index.cutoffs import CutoffTies
from bisieve.index.exclusion import read_exclusion
from bisieve.index.reader import Index, check_shards_unchanged
from bisieve.index.statistics import Statistics, statistics_of
from bisieve.pipeline.engine import OpenEngine
from bisieve.pipeline.rank import select_on
from bisieve.records.model import Rollout
from bisieve.records.options import Parameters
from bisieve.shards.fetch import fetch_in_chunks
from bisieve.tools.selection_notes import selection_notes

if TYPE_CHECKING:
    import pandas as pd

    from bisieve.tools.formats.write import Written


_SHOWN = 10  # rows in a notebook


@dataclass(frozen=True)
class Selection:
    """The best fraction of the rollouts of an index."""

    index: Index
    fraction: float  # that was asked for
    ranking: Mapping[str, Any] = field(default_factory=dict)  # options where they differ from the index's
    open_engine: OpenEngine = field(default_factory=choose_engine, repr=False)  # ranks very many rollouts
    progress: EventSink = field(default=null_sink, repr=False)
    exclude: str | None = None  # URL of a file with the ids of rollouts that are left out

    @cached_property
    def selected(self) -> selection.Selection:
        """Return the selected rows, and what they were selected by."""
        exclusion = read_exclusion(self.index, self.exclude)
        return select_on(self.open_engine, self.index, self.fraction, self.ranking, self.progress, exclusion)

    @property
    def parameters(self) -> Parameters:
        """Return the parameters of the ranking that this is the best of."""
        return self.selected.parameters

    @property
    def table(self) -> pa.Table:
        """Return the selected rows, `schemas.INDEX`, by (source, rank)."""
        return self.selected.rows

    @property
    def delivered(self) -> float:
        """Return the share of the usable rollouts that is selected."""
        return self.selected.delivered

    @property
    def available(self) -> int:
        """Return the number of usable rollouts in the index that are not left out."""
        return self.selected.available

    def to_pandas(self) -> pd.DataFrame:
        """Return the selected rows as a data frame."""
        return self.table.to_pandas()

    def rollouts(self) -> Iterator[Rollout]:
        """Return the selected rollouts with their text, which are read from the shards as they are needed.

        Raises:
            IndexUnusableError: A shard has changed since it was scored.
        """
        check_shards_unchanged(self.index)
        return chain.from_iterable(fetch_in_chunks(self.table, self.selected.shards))

    def write_jsonl(self, url: str, images: str | None = None) -> int:
        """Write the paper's training file, one line per rollout (paper App. C).

        Args:
            url: URL of the file.
            images: Folder for images that are inside the records; without it such records are refused.

        Returns:
            The number of lines.

        Raises:
            UsageError: ``url`` is inside the index or a shard, or a record has an image inside.
            IndexUnusableError: A shard has changed since it was scored.
        """
        from bisieve.api import writers

        return writers.write_jsonl(self.selected, self.index, url, images, self.progress)

    def write_records(self, folder: str, images: str | None = None) -> int:
        """Write the records as they are, as plain JSONL shards, a file per source.

        Args:
            folder: URL of the folder, which can be scored as a corpus.
            images: As in `write_jsonl`.

        Returns:
            The number of rollouts.

        Raises:
            UsageError: As in `write_jsonl`.
            IndexUnusableError: A shard has changed since it was scored.
        """
        from bisieve.api import writers

        return writers.write_records(self.selected, self.index, folder, images, self.progress)

    def write_format(
        self, url: str, format: str, images: str | None = None, image_root: str | None = None,
        skip_unsupported: bool = False,
    ) -> Written:  # fmt: skip
        """Write the selection in a format of another trainer, or as a data set of the Hugging Face hub.

        Args:
            url: URL of the file; with internvl and hf-dataset of a folder.
            format: One of trl, ms-swift, sharegpt, internvl and hf-dataset.
            images: As in `write_jsonl`; hf-dataset holds the images and needs none.
            image_root: Where the images are; hf-dataset reads them, internvl notes the folder.
            skip_unsupported: Leave out the rollouts that the format cannot carry.

        Returns:
            The number of rollouts, and what the format does not carry, a line each.

        Raises:
            UsageError: As in `write_jsonl`; or a rollout cannot be written in this format.
            ImageError: An image of hf-dataset cannot be read.
            IndexUnusableError: A shard has changed since it was scored.
        """
        from bisieve.api import writers

        return writers.write_format(
            self.selected, self.index, url, format, images, image_root, skip_unsupported, self.progress
        )

    @property
    def renamed_sources(self) -> list[str]:
        """Return the sources that `write_records` writes under another file name than their own."""
        from bisieve.tools.export import changed_names

        return changed_names(self.selected)

    @property
    def ties(self) -> CutoffTies | None:
        """Return how many rollouts are selected only by the rule for ties.

        None for a strategy without a score, and for an index that is ranked by ``stratified`` or ``paired``.
        """
        return selection.selection_ties(self.selected, self.index)

    @cached_property
    def statistics(self) -> Statistics:
        """Return statistics of the rollouts: labels, questions, and how well position tells the label."""
        return statistics_of(self.table, self.parameters.threshold)

    @property
    def notes(self) -> list[str]:
        """Return what to know before training: ties at the cutoff, and an α meant for other fractions."""
        return selection_notes(self.selected, self.index)

    def __len__(self) -> int:
        """Return the number of selected rollouts."""
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        """Return one line with the fraction and the number of rollouts."""
        share, number = percent(self.fraction), pluralize(len(self), "rollout")
        return f"<Selection: best {share}, {number} of {self.index.url}>"

    def _repr_html_(self) -> str:
        columns = ["source", "rank", "rollout_id", "bis", "positive_fraction", "reliability", "num_steps"]
        return table_as_html(repr(self), self.table.select(columns).slice(0, _SHOWN))


def table_as_html(title: str, table: pa.Table) -> str:
    """Return a title and a table as HTML; all text is escaped."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.column_names)
    rows = (
        "".join(f"<td>{escape(_cell(value))}</td>" for value in row.values()) for row in table.to_pylist()
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<p>{escape(title)}</p><table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
