"""A selection: the best fraction of the rows of an index, by source or over all (paper §4).

``alpha="auto"`` takes the smallest α whose selection does not invite a shortcut.  A small α prefers mixed
rollouts, in which the position of a step nearly tells its label where errors are absorbing; a larger one adds
rollouts with one label.  That a selection with less of this shortcut trains better is a hypothesis; the
paper's α stay the defaults.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bisieve import schemas
from bisieve.errors import UsageError
from bisieve.index.cutoffs import CutoffTies, cutoff_ties, ties_of_best
from bisieve.index.exclusion import NOTHING, NOTHING_LEFT_OUT, Exclusion, LeftOut
from bisieve.index.manifest import DataFile, fingerprint
from bisieve.index.reader import Index, indexed_layouts, indexed_shards, open_part
from bisieve.index.rerank import read_usable, rescored
from bisieve.index.statistics import SHORTCUT_MARGIN, index_statistics, statistics_of
from bisieve.ranking.order import Best, best_of_unranked
from bisieve.ranking.strategies import strategy_of, with_overrides
from bisieve.records.options import AUTO, EXCLUDE, RANKING, KnownShards, Parameters, parse_fraction

GRID = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)  # of ``alpha="auto"``; from the paper's smallest default on

# Ranks all rollouts of an index by the parameters, and returns the best share.
RankBest: TypeAlias = Callable[[Parameters, float], Best]


@dataclass(frozen=True)
class Selection:
    """The selected rollouts of an index version."""

    rows: pa.Table  # of `schemas.INDEX`, ordered by (source, rank)
    fingerprint: str  # of the index and the fraction; 64 hex digits
    fraction: float  # requested; see `delivered` for the share selected
    available: int  # usable rollouts in the index that are not left out
    shards: KnownShards  # the shards that spans refer to, and how to read them
    parameters: Parameters  # of the ranking that it is the best of
    ties: CutoffTies | None = None  # at its end, if it is not of the index's own ranking: `selection_ties`
    is_alpha_automatic: bool = False  # chosen by `with_automatic_alpha`
    left_out: LeftOut = NOTHING_LEFT_OUT  # by an `Exclusion`

    @property
    def delivered(self) -> float:
        """Return the share of the usable rollouts that was selected."""
        return float(self.rows.num_rows / self.available)


def read_selection(index: Index, fraction: float) -> Selection:
    """Select the best ``max(1, int(m * fraction))`` of the m usable rollouts (paper §4).

    With scope "source" this is done in each source, with "global" over all.  Only row groups that may hold
    selected rows are read.

    Args:
        index: The version to select from.
        fraction: Share of rollouts to select, in (0, 1].

    Raises:
        UsageError: ``fraction`` is not in (0, 1], or all rollouts are all-negative and never selected.
        IndexUnusableError: A file of the index is missing or damaged.
    """
    limits = index.limits(fraction)
    tables = [table for file in index.files for table in _best(index.url, file, limits)]
    rows = pa.concat_tables([schemas.INDEX.empty_table(), *tables])
    return selection_of_rows(index, rows, fraction, index.manifest.parameters)


def select(
    index: Index, fraction: float, asked: Mapping[str, Any], rank: RankBest | None = None,
    exclusion: Exclusion = NOTHING,
) -> Selection:  # fmt: skip
    """Select the best ``fraction`` by other options than those that the index is ranked by.

    The index is not changed. The selection has the rows, and the fingerprint, of the same selection from the
    index that ``bisieve rank`` would write with these options.

    Args:
        index: The version to select from.
        fraction: Share of rollouts to select, in (0, 1].
        asked: Options by name, of `options.RANKING`; ``alpha`` may be `AUTO`. Without any, or with those of
            the index, this is `read_selection`, unless rollouts are left out.
        rank: Ranks the rollouts of the index but those of ``exclusion``; by default in memory, of which each
            takes about 1 kB.
        exclusion: Rollouts to leave out, as if the corpus had not had them.

    Raises:
        UsageError: A value is out of range, no α is automatic, or all rollouts are left out.
        IndexUnusableError: A file of the index is missing or damaged.
    """
    parse_fraction(fraction)
    parameters = asked_parameters(index, asked)
    is_automatic = asked.get("alpha") == AUTO
    if is_as_ranked(index, asked) and not exclusion.ids:
        return read_selection(index, fraction)
    if exclusion.rollouts and exclusion.rollouts == index.manifest.rollouts:
        raise UsageError(
            "a rollout that --exclude does not leave out", "none", "take some of the ids out of its file"
        )
    rank = rank or _in_memory(index, exclusion)
    if is_automatic:
        parameters, best = with_automatic_alpha(index, parameters, fraction, rank, exclusion)
    else:
        best = rank(parameters, fraction)
    rows = best.rows.select(schemas.INDEX.names).cast(schemas.INDEX)
    ties = ties_of_best(best, parameters)
    return selection_of_rows(index, rows, fraction, parameters, ties, is_automatic, exclusion.left_out)


def asked_parameters(index: Index, asked: Mapping[str, Any]) -> Parameters:
    """Return the parameters of a ranking by ``asked``, options by name; `AUTO` as alpha changes nothing here.

    Raises:
        UsageError: A value is out of range, or has no effect with the strategy.
    """
    given = {name: value for name, value in asked.items() if (name, value) != ("alpha", AUTO)}
    parameters = with_overrides(index.manifest.parameters, given)
    strategy = strategy_of(parameters.strategy)
    # An index has the BIS of its rollouts by any strategy, so `bisieve rank` takes an α; a selection is only
    # their order.  The threshold also decides the labels.
    if "alpha" in given and not strategy.uses_alpha:
        raise UsageError(
            "--alpha with a strategy that depends on alpha", f"--strategy {parameters.strategy}",
            "leave out --alpha",
        )  # fmt: skip
    if "seed" in given and not (strategy.shuffled or "seed" in strategy.options or parameters.ties == "hash"):
        raise UsageError(
            "a seed of the selection with --ties hash or a strategy of random order",
            f"--strategy {parameters.strategy}", "leave out --selection-seed",
        )  # fmt: skip
    return parameters


def is_as_ranked(index: Index, asked: Mapping[str, Any]) -> bool:
    """Return whether the index is ranked by the options ``asked`` already."""
    return asked.get("alpha") != AUTO and asked_parameters(index, asked) == index.manifest.parameters


def _in_memory(index: Index, exclusion: Exclusion) -> RankBest:
    parts = [exclusion.without(read_usable(index, file)) for file in index.files]
    rows = pa.concat_tables([schemas.USABLE.empty_table(), *parts])

    def rank(parameters: Parameters, fraction: float) -> Best:
        return best_of_unranked(rescored(rows, parameters), parameters, fraction)

    return rank


def selection_of_rows(
    index: Index, rows: pa.Table, fraction: float, parameters: Parameters, ties: CutoffTies | None = None,
    is_alpha_automatic: bool = False, left_out: LeftOut = NOTHING_LEFT_OUT,
) -> Selection:  # fmt: skip
    """Return the selection of ``rows``, the best ``fraction`` of ``index`` when ranked by ``parameters``.

    Args:
        index: The version that is selected from.
        rows: Of `schemas.INDEX`, ordered by (source, rank).
        fraction: Share of rollouts that was asked for.
        parameters: Of the ranking; those of the index, or others.
        ties: At the end of the selection; None if the index tells them, or they were not counted.
        is_alpha_automatic: Whether its α was chosen by `with_automatic_alpha`.
        left_out: What was not ranked.

    Raises:
        UsageError: There are no rows, though the index has rollouts.
    """
    _require_some(rows, index.manifest.rollouts)
    version = index.fingerprint
    if parameters != index.manifest.parameters:
        version = fingerprint(parameters, indexed_shards(index), index.manifest.rows_version)
    without = f" without {left_out.digest}" if left_out.rollouts else ""
    name = hashlib.sha256(f"{version} {fraction!r}{without}".encode()).hexdigest()
    layouts = {shard.url: layout for shard, layout in indexed_layouts(index).items()}
    shards = KnownShards(parameters.reading, layouts)
    available = index.manifest.rollouts - left_out.rollouts
    return Selection(rows, name, fraction, available, shards, parameters, ties, is_alpha_automatic, left_out)


def selection_ties(selection: Selection, index: Index) -> CutoffTies | None:
    """Return the ties at the end of a selection of ``index``, as `cutoff_ties` does."""
    if not strategy_of(selection.parameters.strategy).has_score:
        return None
    is_of_index = not selection.left_out.rollouts and not differences(selection, index)
    return cutoff_ties(index, selection.fraction) if is_of_index else selection.ties


def differences(selection: Selection, index: Index) -> dict[str, Any]:
    """Return the options of the selection that the index is not ranked by, by name."""
    was, now = index.manifest.parameters, selection.parameters
    return {name: getattr(now, name) for name in RANKING if getattr(now, name) != getattr(was, name)}


def selection_identity(selection: Selection, index: Index) -> dict[str, Any]:
    """Return `differences`, and under `EXCLUDE` the digest of the ids that are left out, if any are."""
    left_out = selection.left_out
    return {**differences(selection, index), **({EXCLUDE: left_out.digest} if left_out.rollouts else {})}


def _require_some(rows: pa.Table, available: int) -> None:
    if available and not rows.num_rows:
        raise UsageError(
            "a rollout with a positive step, as --all-negative drop selects no others",
            "none",
            "rank with --all-negative keep",
        )


def _best(index_url: str, part: DataFile, limits: dict[str, int]) -> Iterator[pa.Table]:
    """Yield the rows of one file whose rank is at most their source's limit, row group by row group."""
    with open_part(index_url, part) as file:
        for group in range(file.num_row_groups):
            if not _may_hold(file.metadata.row_group(group), limits):
                continue
            rows = file.read_row_group(group, use_threads=False)
            source = rows["source"].combine_chunks().dictionary_encode()
            limit = np.array([limits[name] for name in source.dictionary.to_pylist()], np.int64)
            yield rows.filter(pa.array(rows["rank"].to_numpy() <= limit[source.indices.to_numpy()]))


def _may_hold(group: pq.RowGroupMetaData, limits: dict[str, int]) -> bool:
    source, rank = (group.column(column).statistics for column in (0, 1))
    return bool(source.min != source.max or rank.min <= limits[source.min])


def with_automatic_alpha(
    index: Index, parameters: Parameters, fraction: float, rank: RankBest, exclusion: Exclusion = NOTHING
) -> tuple[Parameters, Best]:
    """Return the smallest α of `GRID` whose selection's shortcut is near enough to the corpus's.

    The shortcut is how far the AUC of position → label is from ½ (`Statistics.shortcut_strength`); it may
    be stronger by `SHORTCUT_MARGIN`.

    Args:
        index: The corpus.
        parameters: Of the ranking; its α is not used.
        fraction: Share of rollouts to select.
        rank: Ranks the index.
        exclusion: Rollouts that ``rank`` leaves out, and that are not part of the corpus.

    Returns:
        The parameters with this α, and the selection.

    Raises:
        UsageError: The strategy does not depend on α, or no α of the grid has such a selection.
    """
    if not strategy_of(parameters.strategy).uses_alpha:
        raise UsageError(
            "--alpha auto for a strategy that depends on alpha", f"--strategy {parameters.strategy}",
            "leave out --alpha, or give --strategy bis",
        )  # fmt: skip
    corpus, _ = index_statistics(index, (), parameters.threshold, exclusion)
    bound = corpus.shortcut_strength + SHORTCUT_MARGIN
    if np.isnan(bound):
        raise UsageError(
            "positive and negative steps, to choose alpha by how a step's position tells its label",
            "only one kind", "give a number as --alpha",
        )  # fmt: skip
    found = []
    for alpha in GRID:
        tried = replace(parameters, alpha=alpha)
        best = rank(tried, fraction)
        found.append(statistics_of(best.rows, parameters.threshold).shortcut_strength)
        if found[-1] <= bound:  # false for NaN
            return tried, best
    raise UsageError(
        f"an alpha up to {GRID[-1]:g} with an AUC of position at most {bound:.2f} from 0.5",
        f"{np.nanmin([*found, np.inf]):.2f} at best",
        "give a number as --alpha" + ", or --strategy stratified" * (parameters.strategy != "stratified"),
    )
