"""Where a selection ends: the score of its last rollout, and the rollouts that tie with it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bisieve.index.reader import Index, open_part
from bisieve.index.writer import REPORTED
from bisieve.ranking.best import Best
from bisieve.ranking.sort import codes_and_texts

Ints: TypeAlias = npt.NDArray[np.int64]

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
                source = rows["source"].combine_chunks().dictionary_encode()
                limit = np.array([limits[name] for name in source.dictionary.to_pylist()], np.int64)
                is_last = rows["rank"].to_numpy() == limit[source.indices.to_numpy()]
                for row in rows.filter(pa.array(is_last)).to_pylist():
                    ends[ALL if is_global else row["source"]] = row["bis"]
    return ends


def _may_end(group: pq.RowGroupMetaData, limits: dict[str, int]) -> bool:
    source, rank = (group.column(column).statistics for column in (0, 1))
    return bool(source.min != source.max or rank.min <= limits[source.min] <= rank.max)


@dataclass(frozen=True)
class CutoffTies:
    """Ties at the end of a selection by BIS: which of them were selected, only the rule for ties decided."""

    selected: int  # rollouts of the selection
    tied: int  # those of them that have the score of a rollout of their source that was not selected
    left_out: int  # rollouts with such a score that were not selected
    least: float  # the lowest and the highest of these scores; NaN if there are no ties
    most: float

    def numbers(self) -> dict[str, int | float | None]:
        """Return the fields by name, with None in place of NaN."""
        return {name: value if value == value else None for name, value in vars(self).items()}


def cutoff_ties(index: Index, fraction: float) -> CutoffTies:
    """Count the ties at the end of the selection of ``fraction`` of an index with the strategy ``bis``.

    Only row groups that may hold rollouts with a cutoff score are read.

    Raises:
        UsageError: ``fraction`` is outside (0, 1].
        IndexUnusableError: A file of the index is missing or damaged.
    """
    is_global = index.manifest.parameters.scope == "global"
    rollouts, limits = _limits(index, fraction)
    scores = cutoff_scores(index, fraction)
    by_source = {name: scores.get(ALL if is_global else name, np.nan) for name in rollouts}
    ends_in_negatives = _ends_in_negatives(index, limits)
    kept, left_out = Counter[str](), Counter[str]()
    for names, codes, ranks, bis, negative in _rows_at(index, by_source):
        is_kept = ranks <= np.array([limits[name] for name in names], np.int64)[codes]
        tied = bis == np.array([by_source[name] for name in names])[codes]
        if ends_in_negatives:
            tied &= negative == np.array([ends_in_negatives[name] for name in names])[codes]
        for counted, which in ((kept, tied & is_kept), (left_out, tied & ~is_kept)):
            found = np.bincount(codes[which], minlength=len(names))
            for place in np.flatnonzero(found).tolist():
                counted[ALL if is_global else names[place]] += int(found[place])
    at = [scores[name] for name in left_out]
    return CutoffTies(
        index.selected(fraction),
        sum(kept[name] for name in left_out),
        left_out.total(),
        min(at, default=np.nan),
        max(at, default=np.nan),
    )


def ties_of_best(best: Best, scope: str) -> CutoffTies:
    """Count the ties at the end of a selection of a ranking that no index has.

    Args:
        best: The selected rollouts.
        scope: "source" or "global".
    """
    codes, names = codes_and_texts(best.rows["source"])
    if scope == "global":
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
        group = place.get(ALL if scope == "global" else source)
        if group is not None and key == end[group]:
            left_out[group] += number
    tied = (keys == end[codes]) & (left_out[codes] > 0)
    scores = best.rows["bis"].to_numpy()[is_last & tied]
    return CutoffTies(
        best.rows.num_rows, int(tied.sum()), int(left_out.sum()),
        min(scores.tolist(), default=np.nan), max(scores.tolist(), default=np.nan),
    )  # fmt: skip


def _ends_in_negatives(index: Index, limits: Mapping[str, int]) -> dict[str, bool]:
    """Return by source whether its last selected rollout is all-negative; {} unless these are ranked last.

    They then tie only with each other, although their BIS is that of a perfect rollout.
    """
    parameters = index.manifest.parameters
    if parameters.all_negative == "keep":
        return {}
    names, counts, negatives = (
        index.sources[name].to_pylist() for name in ("source", "rollouts", "all_negative")
    )
    others = {name: count - of_it for name, count, of_it in zip(names, counts, negatives, strict=True)}
    if parameters.scope == "global":
        others = dict.fromkeys(others, sum(others.values()))
    return {name: limit > others[name] for name, limit in limits.items()}


def _rows_at(
    index: Index, scores: Mapping[str, float]
) -> Iterator[tuple[list[str], Ints, Ints, npt.NDArray[np.float64], npt.NDArray[np.bool_]]]:
    """Yield the rows of row groups that may hold a row with its source's score.

    Yields:
        Names of sources, then per row the number of its source in these, its rank, its BIS, and whether it is
        all-negative.
    """
    for part in index.files:
        with open_part(index.url, part) as file:
            for group in range(file.num_row_groups):
                if not _may_have(file.metadata.row_group(group), scores):
                    continue
                columns = ["source", "rank", "bis", "num_positive"]
                rows = file.read_row_group(group, columns=columns, use_threads=False)
                source = rows["source"].combine_chunks().dictionary_encode()
                codes = source.indices.to_numpy().astype(np.int64)
                rank, bis, positive = (rows[name].to_numpy() for name in columns[1:])
                yield source.dictionary.to_pylist(), codes, rank, bis, positive == 0


def _may_have(group: pq.RowGroupMetaData, scores: Mapping[str, float]) -> bool:
    columns = {group.column(place).path_in_schema: place for place in range(group.num_columns)}
    source, bis = (group.column(columns[name]).statistics for name in ("source", "bis"))
    return bool(source.min != source.max or bis.min <= scores[source.min] <= bis.max)
