"""Counts of a corpus and of a selection from it, from one pass over the rows of an index.

rows, kept ──`Counts.add`, batch by batch──▶ counts; their size depends on the number of sources and
questions, not on that of rollouts.  Arrays have an axis of two, `DROPPED` and `KEPT`, unless noted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisieve.index.statistics import Tally
from bisieve.report.rows import Bools, Ints, sources_of

Floats: TypeAlias = npt.NDArray[np.float64]

DROPPED, KEPT = 0, 1
SCORE_BINS = 60  # of the BIS
PARTS_BINS = 25  # of mixture, and of reliability
MOST_STEPS = 16  # later steps are counted as the next one
MOST_OF_A_QUESTION = 16  # questions with more rollouts are counted as with one more
MC_BINS = 12  # of MC scores: 0, ten of equal width between, 1
MOST_SOURCES = 500  # sources that a page names, the largest ones; --json has all
OWN_CHART = 10  # sources that have a histogram of their own, the largest ones
_COUNTED = ("rollouts", "steps", "negative_steps", "mixed", "all_positive", "all_negative")


@dataclass
class Counts:
    """Counts of all rows that were added."""

    alpha: float  # of the BIS: its bins end at its largest value, 0.25 + α
    threshold: float  # a step is positive when its score exceeds it
    names: Sequence[str]  # of the sources
    charted: Sequence[str]  # names of those that have a histogram of their own
    is_global: bool = False  # all sources have one cutoff
    corpus: Tally = field(init=False)
    kept: Tally = field(init=False)
    by_source: dict[str, Ints] = field(init=False)  # name -> [2, sources]
    bis: Ints = field(init=False)  # [2, charted + 1, SCORE_BINS]; the last is of all other sources
    parts: Ints = field(init=False)  # [2, PARTS_BINS, PARTS_BINS] by mixture and reliability
    mc: Ints = field(init=False)  # [2, MOST_STEPS + 1, MC_BINS] steps by place and MC score
    negatives: Ints = field(init=False)  # [2, MOST_STEPS + 1, 2] steps by place and label (0 negative)
    at_alpha: Ints = field(default_factory=lambda: np.zeros(2, np.int64))  # rollouts with BIS α
    lowest: Floats = field(init=False)  # [sources] lowest BIS that is kept; infinite without any

    def __post_init__(self) -> None:
        """Start all counts at 0."""
        self.corpus, self.kept = Tally(self.threshold), Tally(self.threshold)
        sources = len(self.names)
        self.by_source = {name: np.zeros((2, sources), np.int64) for name in _COUNTED}
        self.bis = np.zeros((2, len(self.charted) + 1, SCORE_BINS), np.int64)
        self.parts = np.zeros((2, PARTS_BINS, PARTS_BINS), np.int64)
        self.mc = np.zeros((2, MOST_STEPS + 1, MC_BINS), np.int64)
        self.negatives = np.zeros((2, MOST_STEPS + 1, 2), np.int64)
        self.lowest = np.full(sources, np.inf)
        self._number = {name: number for number, name in enumerate(self.names)}
        self._chart = np.full(sources, len(self.charted))
        self._chart[[self._number[name] for name in self.charted]] = np.arange(len(self.charted))

    @property
    def most(self) -> float:
        """Return the largest BIS that is possible."""
        return 0.25 + self.alpha

    def add(self, rows: pa.Table, kept: Bools) -> None:
        """Count ``rows`` (columns `rows.COLUMNS`), of which those in the mask ``kept`` are selected."""
        if not rows.num_rows:
            return
        self.corpus.add(rows)
        self.kept.add(rows.filter(pa.array(kept)))
        side = kept.astype(np.int64)
        names, codes = sources_of(rows)
        source = np.array([self._number[name] for name in names], np.int64)[codes]
        self._count_rollouts(rows, side, source)
        self._count_steps(rows, side)

    def _count_rollouts(self, rows: pa.Table, side: Ints, source: Ints) -> None:
        bis, p, reliability, steps, positive = (
            rows[name].to_numpy()
            for name in ("bis", "positive_fraction", "reliability", "num_steps", "num_positive")
        )
        is_all, is_none = positive == steps, positive == 0
        values = (np.ones_like(steps), steps, steps - positive, ~(is_all | is_none), is_all, is_none)
        for name, value in zip(_COUNTED, values, strict=True):
            np.add.at(self.by_source[name], (side, source), value.astype(np.int64))
        _add_counts(self.bis, side, self._chart[source], _bins(bis / self.most, SCORE_BINS))
        places = _bins(p * (1 - p) / 0.25, PARTS_BINS), _bins(reliability, PARTS_BINS)
        _add_counts(self.parts, side, *places)
        self.at_alpha += np.bincount(side[bis == self.alpha], minlength=2)
        np.minimum.at(self.lowest, source[side == KEPT], bis[side == KEPT])

    def _count_steps(self, rows: pa.Table, side: Ints) -> None:
        scores = rows["scores"].combine_chunks()
        steps = pc.list_value_length(scores).to_numpy().astype(np.int64)
        values = scores.flatten().to_numpy()
        owner = np.repeat(np.arange(len(steps)), steps)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(steps) - steps, steps)
        place = np.minimum(place, MOST_STEPS)
        inner = 1 + _bins(values, MC_BINS - 2)
        score = np.where(values == 0, 0, np.where(values == 1, MC_BINS - 1, inner))
        _add_counts(self.mc, side[owner], place, score)
        _add_counts(self.negatives, side[owner], place, (values > self.threshold).astype(np.int64))

    def largest(self, most: int | None) -> list[int]:
        """Return the numbers of the sources with most rollouts, these first; None: of all."""
        order: list[int] = np.argsort(-self.by_source["rollouts"].sum(axis=0), kind="stable").tolist()
        return order[:most]

    def cutoffs(self, source: str | None = None) -> Floats:
        """Return the lowest BIS that is kept of each source, sorted and distinct; of all where it is global.

        Args:
            source: Of this source alone; None: of all.
        """
        if self.is_global:
            lowest = self.lowest.min(keepdims=True)
        else:
            lowest = self.lowest if source is None else self.lowest[[self._number[source]]]
        return np.unique(lowest[np.isfinite(lowest)])

    def total(self, name: str) -> tuple[int, int]:
        """Return a count of `by_source` over all sources: of the corpus, and of the selection."""
        dropped, kept = self.by_source[name].sum(axis=1).tolist()
        return dropped + kept, kept

    def questions(self, tally: Tally) -> list[int]:
        """Return the number of questions with 1, 2, … rollouts in ``tally``; the last is of more."""
        capped = np.minimum(tally.of_questions, MOST_OF_A_QUESTION + 1)
        counts: list[int] = np.bincount(capped, minlength=MOST_OF_A_QUESTION + 2)[1:].tolist()
        return counts

    def numbers(self) -> dict[str, Any]:
        """Return the counts by name; those of the corpus and those of the selection."""
        both = {"corpus": slice(None), "selection": slice(KEPT, None)}
        return {
            "bis_edges": np.linspace(0, self.most, SCORE_BINS + 1),
            "mixture_edges": np.linspace(0, 0.25, PARTS_BINS + 1),
            "reliability_edges": np.linspace(0, 1, PARTS_BINS + 1),
            "at_alpha": {name: int(self.at_alpha[side].sum()) for name, side in both.items()},
            **{
                name: {
                    "bis": self.bis[side].sum(axis=(0, 1)),
                    "bis_of_largest_sources": dict(
                        zip(self.charted, self.bis[side].sum(axis=0)[:-1], strict=True)
                    ),
                    "mixture_by_reliability": self.parts[side].sum(axis=0),
                    "mc_scores_by_step": self.mc[side].sum(axis=0),
                    "labels_by_step": self.negatives[side].sum(axis=0),
                    "questions_by_rollouts": self.questions(tally),
                    **tally.statistics().numbers(),
                }
                for (name, side), tally in zip(both.items(), (self.corpus, self.kept), strict=True)
            },
        }


def _bins(shares: Floats, number: int) -> Ints:
    """Return the bin of each value in [0, 1]; bins have equal width, and 1 is in the last one."""
    return np.clip((shares * number).astype(np.int64), 0, number - 1)


def _add_counts(counts: Ints, *places: Ints) -> None:
    """Add 1 at each of ``places``; if ``counts`` is small, faster than ``np.add.at``."""
    flat = np.ravel_multi_index(places, counts.shape)
    counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)
