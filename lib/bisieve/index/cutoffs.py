"""The end of a selection: its last score, the ties around it, and the all-negative rollouts before it.

`cutoff_scores`, `cutoff_ties` and `all_negative` answer from an index.  They read only the row groups that
matter, by the statistics of these; the ties of a strategy of groups need all rows.  `ties_of_best` counts the
ties of a ranking that no index has.  The rule that orders ties is in `bisieve.ranking.order`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bisieve import schemas
from bisieve.index.manifest import DataFile
from bisieve.index.reader import Index, open_part
from bisieve.index.rerank import read_usable
from bisieve.index.writer import REPORTED
from bisieve.ranking.order import MOST_RANKED_TWICE, Best, best_of_unranked, ranking_key
from bisieve.ranking.sort import codes_and_texts
from bisieve.ranking.strategies import strategy_of
from bisieve.records.options import Parameters

Codes: TypeAlias = npt.NDArray[np.int32]
Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

# Columns that any strategy may rank by.
_OF_KEYS = ("bis", "positive_fraction", "reliability", "num_steps", "num_positive", "scores")

ALL = ""  # the key of the selection over all sources (scope=global); no source has this name


def cutoff_scores(index: Index, fraction: float) -> dict[str, float]:
    """Return the cutoff scores of a selection: the BIS of its last rollout.

    The index stores those of the fractions in `REPORTED`; for any other fraction, the row groups that hold
    the last ranks are read.

    Returns:
        BIS by source; with ``scope=global`` a single value, under `ALL`.  A source of which nothing is
        selected has none.

    Raises:
        UsageError: ``fraction`` is outside (0, 1].
        IndexUnusableError: A file of the index is missing or damaged.
    """
    is_global = index.manifest.parameters.scope == "global"
    _, limits = _limits(index, fraction)
    if fraction not in REPORTED:
        return _from_rows(index, limits, is_global)
    if is_global:
        (end,) = (score.bis for score in index.manifest.cutoff_scores if score.fraction == fraction)
        return {ALL: end}
    return {
        row["source"]: score["bis"]
        for row in index.sources.select(["source", "cutoff_scores"]).to_pylist()
        for score in row["cutoff_scores"]
        if score["fraction"] == fraction
    }


def _limits(index: Index, fraction: float) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of usable rollouts and the last selected rank of each source that has any."""
    rollouts = {name: count for name, count in index.rollouts_by_source.items() if count}
    limits = index.limits(fraction)
    return rollouts, {name: limits[name] for name in rollouts}


def _from_rows(index: Index, limits: dict[str, int], is_global: bool) -> dict[str, float]:
    ends = {}
    for part in index.files:
        with open_part(index.url, part) as file:
            for group in range(file.num_row_groups):
                if not _may_end(file.metadata.row_group(group), limits):
                    continue
                rows = file.read_row_group(group, columns=["source", "rank", "bis"], use_threads=False)
                is_last = rows["rank"].to_numpy() == _last_ranks(*codes_and_texts(rows["source"]), limits)
                for row in rows.filter(pa.array(is_last)).to_pylist():
                    ends[ALL if is_global else row["source"]] = row["bis"]
    return ends


def _may_end(group: pq.RowGroupMetaData, limits: dict[str, int]) -> bool:
    source, rank = (group.column(column).statistics for column in (0, 1))
    return bool(source.min != source.max or rank.min <= limits[source.min] <= rank.max)


def _last_ranks(codes: Codes, sources: Sequence[str], limits: Mapping[str, int]) -> Ints:
    """Return for each row the last selected rank of its source, [rows].

    Args:
        codes: Of each row the number of its source in ``sources``, [rows].
        sources: Names of sources.
        limits: By source, the last rank that is selected.
    """
    return np.array([limits[name] for name in sources], np.int64)[codes]


def all_negative(index: Index, fraction: float) -> int:
    """Return how many rollouts of a selection have no positive step.

    Only three columns are read, of row groups that may hold such rollouts.

    Args:
        index: The version that is selected from.
        fraction: Share of rollouts that is selected, in (0, 1].

    Raises:
        UsageError: ``fraction`` is outside (0, 1].
        IndexUnusableError: A file of the index is missing or damaged.
    """
    limits = index.limits(fraction)
    found = 0
    for part in index.files:
        with open_part(index.url, part) as file:
            for group in range(file.num_row_groups):
                if not _may_hold(file.metadata.row_group(group), limits):
                    continue
                rows = file.read_row_group(group, ["source", "rank", "num_positive"], use_threads=False)
                is_best = rows["rank"].to_numpy() <= _last_ranks(*codes_and_texts(rows["source"]), limits)
                found += int(np.count_nonzero(is_best & (rows["num_positive"].to_numpy() == 0)))
    return found


def _may_hold(group: pq.RowGroupMetaData, limits: dict[str, int]) -> bool:
    columns = {group.column(place).path_in_schema: place for place in range(group.num_columns)}
    source, rank, positive = (
        group.column(columns[name]).statistics for name in ("source", "rank", "num_positive")
    )
    return bool(positive.min == 0 and (source.min != source.max or rank.min <= limits[source.min]))


@dataclass(frozen=True)
class CutoffTies:
    """Ties at the end of a selection; the rule for ties alone decided which of them were selected.

    With a strategy of groups (`Strategy.passes`) ties inside a group decide, too. Then ``tied`` are the
    selected rollouts that another order of ties would replace, and ``left_out`` as many, which would come in
    their place.
    """

    selected: int  # rollouts of the selection
    tied: int  # those of them that tie with a rollout that was not selected
    left_out: int  # rollouts that were not selected and tie with these
    least: float  # lowest BIS of the ties; NaN if there are none, or with another strategy than bis
    most: float  # highest BIS of the ties, likewise

    def numbers(self) -> dict[str, int | float | None]:
        """Return the fields by name, with None in place of NaN."""
        return {name: value if value == value else None for name, value in vars(self).items()}


class _RowGroup(NamedTuple):
    """A row group of an index, and what its statistics say of its rows."""

    part: DataFile
    number: int  # in its file
    source: str | None  # None: several
    lowest: int  # rank
    highest: int  # rank


def cutoff_ties(index: Index, fraction: float) -> CutoffTies | None:
    """Count the ties at the end of the selection of ``fraction`` of an index.

    Rollouts of equal key have neighbouring ranks, so only row groups around the ends are read. For a strategy
    of groups all rollouts are read and ranked twice.

    Returns:
        The ties; None for a strategy without a score, and for one of groups if the index has more than
        `MOST_RANKED_TWICE` rollouts.

    Raises:
        UsageError: ``fraction`` is outside (0, 1].
        IndexUnusableError: A file of the index is missing or damaged.
    """
    parameters = index.manifest.parameters
    strategy = strategy_of(parameters.strategy)
    if not strategy.has_score:
        return None
    if strategy.passes:
        return _of_groups(index, fraction)
    is_global = parameters.scope == "global"
    _, limits = _limits(index, fraction)
    groups = list(_row_groups(index))
    ends = _ends(index, groups, limits, is_global)
    keys = {name: ends[of][0] for name in limits if (of := ALL if is_global else name) in ends}
    kept = _with_last_key(index, groups[::-1], limits, keys, is_behind=False)
    left_out = _with_last_key(index, groups, limits, keys, is_behind=True)
    if is_global:
        kept, left_out = (Counter({ALL: each.total()}) for each in (kept, left_out))
    tied = [name for name in left_out if left_out[name]]
    scores = [ends[name][1] for name in tied if parameters.strategy == "bis"]
    return CutoffTies(
        index.selected(fraction), sum(kept[name] for name in tied), left_out.total(),
        min(scores, default=np.nan), max(scores, default=np.nan),
    )  # fmt: skip


def _of_groups(index: Index, fraction: float) -> CutoffTies | None:
    parameters = index.manifest.parameters
    if index.manifest.rollouts > MOST_RANKED_TWICE:
        return None
    parts = [read_usable(index, file) for file in index.files]
    rows = pa.concat_tables([schemas.USABLE.empty_table(), *parts])
    return ties_of_best(best_of_unranked(rows, parameters, fraction), parameters)


def _row_groups(index: Index) -> Iterator[_RowGroup]:
    for part in index.files:
        with open_part(index.url, part) as file:
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                source, rank = (group.column(column).statistics for column in (0, 1))
                yield _RowGroup(
                    part, number, source.min if source.min == source.max else None, rank.min, rank.max
                )


def _read(index: Index, group: _RowGroup) -> tuple[list[str], Codes, Ints, Floats, Floats]:
    """Return names of sources, then of each row the number of its source in these, rank, key and BIS."""
    parameters = index.manifest.parameters
    columns = ["source", "rank", *_OF_KEYS, *strategy_of(parameters.strategy).columns]
    with open_part(index.url, group.part) as file:
        rows = file.read_row_group(group.number, columns, use_threads=False)
    codes, names = codes_and_texts(rows["source"])
    rank, bis = (rows[name].to_numpy() for name in ("rank", "bis"))
    return names, codes, rank, ranking_key(rows, parameters), bis


def _ends(
    index: Index, groups: Iterable[_RowGroup], limits: Mapping[str, int], is_global: bool
) -> dict[str, tuple[float, float]]:
    """Return the key and the BIS of the last selected rollout, by source or under `ALL`."""
    found = {}
    for group in groups:
        if group.source is not None and not group.lowest <= limits[group.source] <= group.highest:
            continue
        names, codes, rank, key, bis = _read(index, group)
        is_last = rank == _last_ranks(codes, names, limits)
        for place in np.flatnonzero(is_last).tolist():
            found[ALL if is_global else names[codes[place]]] = float(key[place]), float(bis[place])
    return found


def _with_last_key(
    index: Index, groups: Iterable[_RowGroup], limits: Mapping[str, int], keys: Mapping[str, float],
    is_behind: bool,
) -> Counter[str]:  # fmt: skip
    """Count by source the rollouts that have the key of the last selected one.

    Args:
        index: The version that is selected from.
        groups: Its row groups, those near the ends first.
        limits: By source, the last rank that is selected.
        keys: By source, the key of the last selected rollout.
        is_behind: Count those that are not selected, not those that are.
    """
    going_on = set(keys)  # sources of which no rollout of another key was met yet
    counted = Counter[str]()
    for group in groups:
        if group.source is not None:
            nearest = group.highest if is_behind else group.lowest
            if group.source not in going_on or (nearest > limits[group.source]) != is_behind:
                continue
        names, codes, rank, key, _ = _read(index, group)
        is_counted = (rank > _last_ranks(codes, names, limits)) == is_behind
        is_equal = key == np.array([keys.get(name, np.nan) for name in names])[codes]
        for place, number in enumerate(np.bincount(codes[is_counted & is_equal], minlength=len(names))):
            counted[names[place]] += int(number)
        going_on -= {names[code] for code in np.unique(codes[is_counted & ~is_equal]).tolist()}
    return counted


def ties_of_best(best: Best, parameters: Parameters) -> CutoffTies | None:
    """Count the ties at the end of a selection of a ranking that no index has.

    Args:
        best: The selected rollouts.
        parameters: Of the ranking.

    Returns:
        The ties; None for a strategy of groups whose ties were not counted.
    """
    if strategy_of(parameters.strategy).passes:
        counted = best.replaced
        return (
            counted if counted is None else CutoffTies(best.rows.num_rows, counted, counted, np.nan, np.nan)
        )
    codes, names = codes_and_texts(best.rows["source"])
    is_global = parameters.scope == "global"
    if is_global:
        codes, names = np.zeros_like(codes), [ALL]
    ranks, keys = (best.rows[name].to_numpy() for name in ("rank", "key"))
    last = np.zeros(len(names), np.int64)
    np.maximum.at(last, codes, ranks)
    is_last = ranks == last[codes]
    end = np.full(len(names), np.nan)
    end[codes[is_last]] = keys[is_last]
    place = {name: number for number, name in enumerate(names)}
    left_out = np.zeros(len(names), np.int64)
    for source, key, number in best.left_out:
        group = place.get(ALL if is_global else source)
        if group is not None and key == end[group]:
            left_out[group] += number
    tied = (keys == end[codes]) & (left_out[codes] > 0)
    is_told = is_last & tied & (parameters.strategy == "bis")
    scores = best.rows["bis"].to_numpy()[is_told].tolist()
    return CutoffTies(
        best.rows.num_rows, int(tied.sum()), int(left_out.sum()),
        min(scores, default=np.nan), max(scores, default=np.nan),
    )  # fmt: skip
