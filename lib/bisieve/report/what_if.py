"""What another fraction or another α would keep, computed before a page is written.

Up to `SAMPLE` rollouts are kept in memory: all rollouts of a share of the questions, so that a question is in
the sample as a whole.  Ties among equal scores stay in the order of the index.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from bisieve.index.statistics import NEEDED, Statistics, question_hashes, statistics_of
from bisieve.ranking.sort import begins
from bisieve.records.options import Parameters
from bisieve.report.rows import Ints

SAMPLE = 40_000  # rollouts
FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
ALPHAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

_COLUMNS = (
    "source", "rank", "positive_fraction", "reliability", "num_positive", *NEEDED,
)  # fmt: skip
_FULL = 10  # times `SAMPLE`: so many rollouts only questions can have that are few and large
_SEED = 1  # another one than that of `index.statistics`, whose hashes count questions


@dataclass
class Sample:
    """Rollouts of a share of the questions, in the order of the ranking."""

    rollouts: int  # of the index
    tables: list[pa.Table] = field(default_factory=list)  # none if questions are so few that no sample fits
    _taken: int = 0  # rollouts

    @property
    def one_in(self) -> int:
        """Return of how many questions one is in the sample."""
        return -(-self.rollouts // SAMPLE) or 1

    def add(self, rows: pa.Table) -> None:
        """Add the rows (columns `rows.COLUMNS`) whose question is in the sample."""
        chosen = rows.select(_COLUMNS)
        if self.one_in > 1:
            hashes = question_hashes(rows["question_id"].combine_chunks(), _SEED)
            chosen = chosen.filter(pa.array(hashes % np.uint64(self.one_in) == 0))
        self._taken += chosen.num_rows
        if self._taken > _FULL * SAMPLE:
            self.tables.clear()
        elif chosen.num_rows:
            self.tables.append(chosen)

    @property
    def table(self) -> pa.Table:
        """Return all rows of the sample."""
        return pa.concat_tables(self.tables).combine_chunks()


@dataclass(frozen=True)
class WhatIf:
    """Statistics of the selections of other fractions and α; of each α those of all fractions."""

    fractions: tuple[float, ...]
    alphas: tuple[float, ...]  # of one entry for a strategy without α
    one_in: int  # of how many questions one was looked at
    sampled: int  # rollouts that were looked at
    questions: int  # their questions
    found: list[list[Statistics]]  # [alphas][fractions]

    def numbers(self) -> dict[str, Any]:
        """Return everything by name."""
        points = [
            {"alpha": alpha, "fraction": fraction, **each.numbers()}
            for alpha, row in zip(self.alphas, self.found, strict=True)
            for fraction, each in zip(self.fractions, row, strict=True)
        ]
        about = {"one_question_in": self.one_in, "rollouts_looked_at": self.sampled}
        return {**about, "questions_looked_at": self.questions, "points": points}


def what_if(sample: Sample, parameters: Parameters, fraction: float) -> WhatIf:
    """Return what other selections than that of ``fraction`` would keep of the sample."""
    rows = sample.table
    fractions = tuple(sorted({*FRACTIONS, fraction}))
    has_alpha = parameters.strategy == "bis"
    alphas = tuple(sorted({*ALPHAS, parameters.alpha})) if has_alpha else (parameters.alpha,)
    group = np.zeros(rows.num_rows, np.int64)
    if parameters.scope == "source":
        group = np.cumsum(begins(rows, ["source"])) - 1
    found = []
    for alpha in alphas:
        order = _order(rows, group, alpha, parameters)
        place, size = _places(group[order])
        selections = [order[place < np.maximum(1, (size * share).astype(np.int64))] for share in fractions]
        if parameters.all_negative == "drop":
            selections = [chosen[rows["num_positive"].to_numpy()[chosen] > 0] for chosen in selections]
        found.append([statistics_of(rows.take(each), parameters.threshold) for each in selections])
    questions = len(rows["question_id"].combine_chunks().unique())
    return WhatIf(fractions, alphas, sample.one_in, rows.num_rows, questions, found)


def _order(rows: pa.Table, group: Ints, alpha: float, parameters: Parameters) -> Ints:
    """Return the rows by group and, inside each, by rank with ``alpha``."""
    rank = rows["rank"].to_numpy()
    if alpha == parameters.alpha:
        return np.lexsort((rank, group))  # as the index is ranked, by whatever strategy
    p, reliability = (rows[name].to_numpy() for name in ("positive_fraction", "reliability"))
    key = (p * (1 - p) + alpha) * reliability
    if parameters.all_negative != "keep":
        key = np.where(rows["num_positive"].to_numpy() == 0, -np.inf, key)
    return np.lexsort((rank, -key, group))


def _places(group: Ints) -> tuple[Ints, Ints]:
    """Return for each row its place in its group, from 0, and the group's size; groups are contiguous."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    sizes = np.diff([*starts, len(group)])
    return np.arange(len(group)) - np.repeat(starts, sizes), np.repeat(sizes, sizes)
