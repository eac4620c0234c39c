"""What a user should know about a selection before training on it.

`selection_notes` is about a selection that is made, `ties_and_notes` and `ranking_notes` about one that an
index would give: many ties, rollouts without a positive step, an α that does not fit the fraction.
`statistics_table` shows selections beside the corpus, and `shortcut_notes` warns of one in which the position
of a step tells its label.
"""

import math
from collections.abc import Sequence

import numpy as np

from bisieve._text import Table, percent, pluralize
from bisieve.index.cutoffs import CutoffTies, all_negative, cutoff_ties
from bisieve.index.reader import Index
from bisieve.index.selection import Selection, differences, selection_ties
from bisieve.index.statistics import Statistics, has_stronger_shortcut
from bisieve.ranking.strategies import strategy_of
from bisieve.records.options import Parameters

# The paper's α for two fractions (§4, Table 5): the smaller the selection, the more single-label rollouts it
# needs, which α raises.
PAPERS_ALPHA = {0.10: 0.2, 0.25: 0.05}
# Fractions up to the first bound are compared with 10 % alone, those from the second one on with 25 % alone.
_SMALL, _LARGE = 0.15, 0.2
_FACTOR = 2  # by which α may be smaller or larger than the paper's
_WORTH_A_NOTE = 0.01  # share of ties in a selection from which they are noted
_DECIDED_BY = {"file": "by file order", "hash": "by a seeded hash", "spread": "question by question"}
_FIFTHS = ("first", "second", "third", "fourth", "last")
_LABELS = (
    "rollouts", "questions", "rollouts a question", "mixed", "all positive", "all negative",
    "negative steps", *(f"  in the {name} fifth" for name in _FIFTHS), "AUC of position → label",
)  # fmt: skip


def ties_and_notes(index: Index, fraction: float) -> tuple[CutoffTies | None, list[str]]:
    """Return the ties at the end of a selection, and the notes on it; counting ties may take a while.

    The notes are `ranking_notes`, and one if the paper uses quite another α for such fractions.

    Args:
        index: The version that is selected from.
        fraction: Share of rollouts that is selected, in (0, 1].
    """
    ties = cutoff_ties(index, fraction)
    return ties, [*_ranking_notes(index, fraction, ties), *_alpha(index.manifest.parameters, fraction)]


def selection_notes(selection: Selection, index: Index) -> list[str]:
    """Return the notes on a selection from ``index``; first, which other options it is made by."""
    parameters, fraction, rows = selection.parameters, selection.fraction, selection.rows
    options = differences(selection, index)
    changed = [f"{name.replace('_', ' ')} {value}" for name, value in options.items() if name != "alpha"]
    if selection.is_alpha_automatic:
        changed.append(f"alpha {parameters.alpha:g}, as --alpha auto found")
    elif "alpha" in options:
        changed.append(f"alpha {parameters.alpha:g}")
    made = [f"best {percent(fraction)}: selected by {', '.join(changed)}"] if changed else []
    made += _left_out(selection)
    ties = selection_ties(selection, index)
    negatives = int(np.count_nonzero(rows["num_positive"].to_numpy() == 0))
    return [
        *made,
        *_ties(parameters, fraction, ties),
        *_pairs(selection),
        *_negatives(fraction, rows.num_rows, negatives),
        *_alpha(parameters, fraction),
    ]


def ranking_notes(index: Index, fraction: float) -> list[str]:
    """Return notes on the best rollouts of an index: on many ties at their end, and on all-negative ones.

    Args:
        index: The version that is selected from.
        fraction: Share of rollouts that is selected, in (0, 1].
    """
    return _ranking_notes(index, fraction, cutoff_ties(index, fraction))


def _ranking_notes(index: Index, fraction: float, ties: CutoffTies | None) -> list[str]:
    noted = _ties(index.manifest.parameters, fraction, ties)
    return [*noted, *_negatives(fraction, index.selected(fraction), all_negative(index, fraction))]


def _left_out(selection: Selection) -> list[str]:
    left_out = selection.left_out
    if not left_out.rollouts:
        return []
    unknown = f"; ids of its file that are not in the index: {left_out.unknown:,}"
    return [
        f"best {percent(selection.fraction)}: --exclude leaves out {pluralize(left_out.rollouts, 'rollout')}"
        f"{unknown if left_out.unknown else ''}"
    ]


def _ties(parameters: Parameters, fraction: float, ties: CutoffTies | None) -> list[str]:
    if ties is None or ties.tied < _WORTH_A_NOTE * ties.selected or not ties.tied:
        return []
    has_no_rule = strategy_of(parameters.strategy).shuffled  # --ties is refused
    hint = "" if parameters.ties == "spread" or has_no_rule else "; see --ties spread"
    if strategy_of(parameters.strategy).passes:  # ties inside its groups decide, too
        found = f"{ties.tied:,} of {ties.selected:,} are ties by {parameters.strategy}"
        rule = _DECIDED_BY[parameters.ties]
        return [f"best {percent(fraction)}: {found}, chosen {rule}; in reverse others would be{hint}"]
    at = f"by {parameters.strategy}"
    if parameters.strategy == "bis":
        ends = f"{ties.least:.4f}" if ties.least == ties.most else f"{ties.least:.4f} to {ties.most:.4f}"
        at = f"at BIS {ends}"
    return [
        f"best {percent(fraction)}: {ties.tied:,} of {ties.selected:,} are ties {at}, chosen from "
        f"{ties.tied + ties.left_out:,} {_DECIDED_BY[rule_for_ties(parameters)]}{hint}"
    ]


def rule_for_ties(parameters: Parameters) -> str:
    """Return the rule by which rollouts of equal score are ordered, one of `options.TIES`."""
    return "hash" if strategy_of(parameters.strategy).shuffled else parameters.ties


def _pairs(selection: Selection) -> list[str]:
    """Return a note if the strategy `paired` has found far fewer partners than it was asked for."""
    share, rows = selection.parameters.pair_share, selection.rows
    if selection.parameters.strategy != "paired":
        return []
    positive, steps = rows["num_positive"].to_numpy(), rows["num_steps"].to_numpy()
    mixed = int(np.count_nonzero((positive > 0) & (positive < steps)))
    partners = int(np.count_nonzero(positive == steps))
    # The last pair of each source may be cut, and a hash chooses which rollouts are to have a partner.
    by_chance = len(rows["source"].unique()) + 3 * np.sqrt(mixed * share * (1 - share))
    if partners >= mixed * share - by_chance:
        return []
    return [
        f"best {percent(selection.fraction)}: {partners:,} all-positive partners for {mixed:,} mixed "
        f"rollouts (--pair-share {share:g}): there are no more of their questions, nor of their source and "
        "number of steps"
    ]


def _negatives(fraction: float, selected: int, negatives: int) -> list[str]:
    if not negatives:
        return []
    share = f"{negatives / selected:.1%}"
    return [
        f"best {percent(fraction)}: {negatives:,} of {selected:,} have no positive step ({share}); "
        "--all-negative drop leaves them out"
    ]


def _alpha(parameters: Parameters, fraction: float) -> list[str]:
    alpha = parameters.alpha
    if parameters.strategy != "bis" or fraction == 1:  # the paper's α is for BIS; at 100 % it changes nothing
        return []
    alike = [like for like in PAPERS_ALPHA if like > _SMALL or fraction < _LARGE]
    alike = [like for like in alike if like < _LARGE or fraction > _SMALL]
    if any(PAPERS_ALPHA[like] / _FACTOR <= alpha <= PAPERS_ALPHA[like] * _FACTOR for like in alike):
        return []
    like = min(alike, key=lambda each: abs(each - fraction))
    papers = f"{PAPERS_ALPHA[like]:g}"
    return [
        f"best {percent(fraction)}: alpha is {alpha:g}, the paper's for {percent(like)} is {papers}; "
        f"--alpha {papers} selects by that"
    ]


def statistics_table(corpus: Statistics, selections: Sequence[tuple[str, Statistics]]) -> Table:
    """Return a table with a column for the corpus and for each selection.

    Args:
        corpus: All rollouts of the index.
        selections: Each with its title.
    """
    columns = [("corpus", corpus), *selections]
    rows = list(zip(_LABELS, *(_cells(found) for _, found in columns), strict=True))
    return Table(("what is trained on", *(title for title, _ in columns)), rows)


def _cells(found: Statistics) -> list[str]:
    kinds = (found.mixed, found.all_positive, found.all_negative)
    return [
        f"{found.rollouts:,}",
        f"{found.questions:,}",
        _number(found.rollouts_per_question),
        *(f"{count / found.rollouts:.1%}" if found.rollouts else "-" for count in kinds),
        *(_percent(share) for share in (found.negative_share, *found.negative_by_fifth)),
        _number(found.shortcut),
    ]


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"


def shortcut_notes(corpus: Statistics, selection: Statistics, fraction: float, strategy: str) -> list[str]:
    """Return a line if the position of a step tells its label far better than in the corpus; else [].

    Args:
        corpus: All rollouts that could be selected.
        selection: The selected ones.
        fraction: Their share.
        strategy: By which they are selected.
    """
    if not has_stronger_shortcut(selection, corpus):
        return []
    weaker = "; --strategy paired and --alpha auto weaken it" if strategy_of(strategy).uses_alpha else ""
    return [
        f"best {percent(fraction)}: the position of a step alone tells its label (AUC "
        f"{selection.shortcut:.2f}, corpus {corpus.shortcut:.2f}); a model can learn that alone: compare it "
        f"with the position baseline of bisieve evaluate{weaker}"
    ]
