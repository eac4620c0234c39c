"""``alpha="auto"``: the smallest α whose selection does not invite a shortcut.

A small α prefers mixed rollouts, in which the position of a step nearly tells its label where errors are
absorbing; a larger one adds rollouts with one label.  That a selection with less of this shortcut trains
better is a hypothesis; the paper's α stay the defaults.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from bisieve.errors import UsageError
from bisieve.index.exclusion import NOTHING, Exclusion
from bisieve.index.reader import Index
from bisieve.index.statistics import SHORTCUT_MARGIN, index_statistics, statistics_of
from bisieve.ranking.best import Best
from bisieve.ranking.strategies import strategy_of
from bisieve.records.options import Parameters

GRID = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)  # from the paper's smallest default on

# Ranks all rollouts of an index by the parameters, and returns the best share.
RankBest: TypeAlias = Callable[[Parameters, float], Best]


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
