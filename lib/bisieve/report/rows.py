"""The rows of an index in batches, each with what a selection keeps of it; in bounded memory.

An index that is ranked as the selection asks is read row group by row group.  Otherwise its rollouts are
ranked in memory, as `index.selection.select` does, which limits their number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisieve import schemas
from bisieve.errors import UsageError
from bisieve.index.cutoffs import CutoffTies
from bisieve.index.exclusion import NOTHING, Exclusion
from bisieve.index.reader import Index, indexed_layouts, open_part
from bisieve.index.rerank import read_usable, rescored
from bisieve.index.selection import Selection, is_as_ranked, select, selection_ties
from bisieve.ranking.order import Best, best_of_ranked, ranked, selection_limits
from bisieve.records.options import AUTO, KnownShards, Parameters, parse_fraction
from bisieve.tools.selection_notes import selection_notes, ties_and_notes

Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]

COLUMNS = (  # what `aggregates` and `what_if` read
    "source", "rank", "question_id", "bis", "positive_fraction", "reliability", "num_steps", "num_positive",
    "scores",
)  # fmt: skip
MOST_IN_MEMORY = 4_000_000  # rollouts that are ranked by other options; one takes about 1 kB
_AT_ONCE = 100_000  # rows of a batch that is in memory anyway


@dataclass(frozen=True)
class InMemory:
    """The rollouts of an index, ranked by other options than those of the index."""

    rows: pa.Table  # `schemas.USABLE` with ``rank``, ordered by (source, rank)
    selection: Selection  # the best of them


@dataclass(frozen=True)
class View:
    """An index, ranked by some options, and the share of it that a selection keeps."""

    index: Index
    fraction: float  # in (0, 1]
    in_memory: InMemory | None  # None: ranked as the index is
    exclusion: Exclusion = NOTHING  # rollouts that are not in the view

    @property
    def parameters(self) -> Parameters:
        """Return the parameters of the ranking."""
        return self.in_memory.selection.parameters if self.in_memory else self.index.manifest.parameters

    @property
    def rollouts(self) -> int:
        """Return the number of usable rollouts that are not left out."""
        return self.in_memory.rows.num_rows if self.in_memory else self.index.manifest.rollouts

    @cached_property
    def rollouts_by_source(self) -> dict[str, int]:
        """Return `rollouts` by source, ordered by name; 0 for a source that is left out as a whole."""
        names = self.index.rollouts_by_source
        if self.in_memory is None:
            return names
        return {**dict.fromkeys(names, 0), **_counts(self.in_memory.rows["source"])}

    @cached_property
    def limits(self) -> dict[str, int]:
        """Return, by source, the last rank that is kept."""
        if self.in_memory is None:
            return self.index.limits(self.fraction)
        dropped = {}
        if self.parameters.all_negative == "drop":
            sources, positive = (self.in_memory.rows[name] for name in ("source", "num_positive"))
            dropped = _counts(sources.filter(pa.array(positive.to_numpy() == 0)))
        scope = self.parameters.scope
        return selection_limits(self.rollouts_by_source, scope, self.fraction, dropped)

    @property
    def shards(self) -> KnownShards:
        """Return how the shards of the index are read."""
        layouts = {shard.url: layout for shard, layout in indexed_layouts(self.index).items()}
        return KnownShards(self.parameters.reading, layouts)

    def ties_and_notes(self) -> tuple[CutoffTies | None, list[str]]:
        """Return the ties at the end of the selection, as `cutoff_ties` does, and notes."""
        if not self.rollouts:
            return None, []
        if self.in_memory is None:
            return ties_and_notes(self.index, self.fraction)
        selection = self.in_memory.selection
        return selection_ties(selection, self.index), selection_notes(selection, self.index)

    def batches(self, columns: Sequence[str] = COLUMNS) -> Iterator[tuple[pa.Table, Bools]]:
        """Yield all rows, ordered by (source, rank), with a mask of those that are kept."""
        limits = self.limits
        for rows in self._tables(columns):
            names, codes = sources_of(rows)
            last = np.array([limits[name] for name in names], np.int64)
            yield rows, rows["rank"].to_numpy() <= last[codes]

    def _tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        if self.in_memory is not None:
            for batch in self.in_memory.rows.select(columns).to_batches(max_chunksize=_AT_ONCE):
                yield pa.Table.from_batches([batch])
            return
        for part in self.index.files:
            with open_part(self.index.url, part) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group, list(columns), use_threads=False)

    def at(self, wanted: Mapping[str, set[int]]) -> pa.Table:
        """Return the rows (`schemas.INDEX`) with these ranks, by source, ordered by (source, rank)."""
        found = [schemas.INDEX.empty_table()]
        if self.in_memory is not None:
            rows = self.in_memory.rows.select(schemas.INDEX.names)
            return _with_ranks(rows, wanted).cast(schemas.INDEX)
        for part in self.index.files:
            with open_part(self.index.url, part) as file:
                for group in range(file.num_row_groups):
                    source, rank = (file.metadata.row_group(group).column(n).statistics for n in (0, 1))
                    ranks = wanted.get(source.min, set())
                    if source.min != source.max or any(rank.min <= each <= rank.max for each in ranks):
                        found.append(_with_ranks(file.read_row_group(group, use_threads=False), wanted))
        return pa.concat_tables(found)


def rows_with(view: View, column: str, value: str) -> pa.Table:
    """Return the rows (`schemas.INDEX`) of a view with a text in one of its columns, by (source, rank)."""
    if view.in_memory is not None:
        rows = view.in_memory.rows
        return rows.filter(pc.equal(rows[column], value)).select(schemas.INDEX.names).cast(schemas.INDEX)
    found = [schemas.INDEX.empty_table()]
    for part in view.index.files:
        with open_part(view.index.url, part) as file:
            for group in range(file.num_row_groups):
                mask = pc.equal(file.read_row_group(group, [column], use_threads=False)[column], value)
                if pc.any(mask).as_py():
                    found.append(file.read_row_group(group, use_threads=False).filter(mask))
    return pa.concat_tables(found)


def open_view(
    index: Index, fraction: float, asked: Mapping[str, Any], exclusion: Exclusion = NOTHING
) -> View:
    """Return the view of an index that a selection by the options ``asked`` gives, without ``exclusion``.

    Raises:
        UsageError: A value is out of range, all rollouts are left out, or the index is too large to be ranked
            in memory.
        IndexUnusableError: A file of the index is missing or damaged.
    """
    fraction = parse_fraction(fraction)
    if is_as_ranked(index, asked) and not exclusion.ids:
        return View(index, fraction, None)
    if index.manifest.rollouts > MOST_IN_MEMORY:
        raise UsageError(
            f"an index of at most {MOST_IN_MEMORY:,} rollouts, to report it by other options",
            f"{index.manifest.rollouts:,}",
            _instead(index, asked, exclusion),
        )
    parts = [exclusion.without(read_usable(index, file)) for file in index.files]
    usable = pa.concat_tables([schemas.USABLE.empty_table(), *parts])
    last: list[pa.Table] = []  # the ranking of the selection is the last one that `select` asks for

    def rank(parameters: Parameters, fraction: float) -> Best:
        last[:] = [ranked(rescored(usable, parameters), parameters)]
        return best_of_ranked(last[0], parameters, fraction)

    selection = select(index, fraction, asked, rank, exclusion)
    return View(index, fraction, InMemory(last[0], selection), exclusion)


def _instead(index: Index, asked: Mapping[str, Any], exclusion: Exclusion) -> str:
    """Return what to do where an index is too large to be ranked in memory."""
    if exclusion.ids:
        return "leave out --exclude; without --html, bisieve report has no such limit"
    if asked.get("alpha") == AUTO:
        return "bisieve report without --html says which alpha it is: rank by it with bisieve rank --alpha"
    flags = "".join(f" --{name.replace('_', '-')} {value}" for name, value in asked.items())
    return f"bisieve rank --index {index.url} --output NEW{flags}, and then --index NEW without these options"


def sources_of(rows: pa.Table) -> tuple[list[str], Ints]:
    """Return the names of the sources of ``rows``, and for each row the number of its source in them."""
    column = rows["source"].combine_chunks()
    coded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy().astype(np.int64)


def _counts(sources: pa.ChunkedArray) -> dict[str, int]:
    return {each["values"]: each["counts"] for each in sources.value_counts().to_pylist()}


def _with_ranks(rows: pa.Table, wanted: Mapping[str, set[int]]) -> pa.Table:
    names, codes = sources_of(rows)
    ranks = rows["rank"].to_numpy()
    mask = np.zeros(len(ranks), np.bool_)
    for number, name in enumerate(names):
        if name in wanted:
            mask |= (codes == number) & np.isin(ranks, list(wanted[name]))
    return rows.filter(pa.array(mask))
