"""Show statistics of selections beside those of the corpus, and say where a selection invites a shortcut."""

from collections.abc import Sequence

from bisieve._text import Table, percent
from bisieve.index.statistics import Statistics, has_stronger_shortcut
from bisieve.ranking.strategies import strategy_of

_FIFTHS = ("first", "second", "third", "fourth", "last")


def statistics_table(corpus: Statistics, selections: Sequence[tuple[str, Statistics]]) -> Table:
    """Return a table with a column for the corpus and for each selection.

    Args:
        corpus: All rollouts of the index.
        selections: Each with its title.
    """
    columns = [("corpus", corpus), *selections]
    rows = list(zip(_LABELS, *(_cells(found) for _, found in columns), strict=True))
    return Table(("what is trained on", *(title for title, _ in columns)), rows)


_LABELS = (
    "rollouts", "questions", "rollouts a question", "mixed", "all positive", "all negative",
    "negative steps", *(f"  in the {name} fifth" for name in _FIFTHS), "AUC of position → label",
)  # fmt: skip


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
    return f"{value:.2f}" if value == value else "-"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share == share else "-"


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
    auto = "; --alpha auto looks for a selection without it"
    other = auto if strategy_of(strategy).uses_alpha else ""
    return [
        f"best {percent(fraction)}: the position of a step alone tells its label (AUC "
        f"{selection.shortcut:.2f}, corpus {corpus.shortcut:.2f}); a model can learn that alone: compare it "
        f"with the position baseline of bisieve evaluate{other}"
    ]
