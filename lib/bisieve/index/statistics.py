"""What a set of rollouts looks like before training: its questions, its labels, and where the negatives are.

rows of an index ──`Tally.add`, batch by batch──▶ counts ──▶ `Statistics`
question_id of rows ──`question_hashes`──▶ hashes ──`QuestionCounts.add`──▶ counts, 12 bytes a question

The shortcut: errors are absorbing, so late steps are negative more often than early ones.  Where the position
of a step nearly tells its label, a model can learn the position in place of the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisieve._hash import seeded_hashes, splitmix64
from bisieve.index.exclusion import NOTHING, Exclusion
from bisieve.index.reader import Index, open_part

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Counts: TypeAlias = npt.NDArray[np.uint32]

# How much stronger than the corpus's the shortcut of a selection may be.  It is from the first trials, on the
# synthetic corpus (AUC 0.68) with another base than that of docs/study.md: at 10 %, a selection at 0.80
# trained as well as a random one, one at 0.91 worse.  In the study the shortcut does no harm.
SHORTCUT_MARGIN = 0.15

FIFTHS = 5
_MOST_CODES = 2**22  # of steps by (length of the rollout, place): rollouts of up to 2047 steps
NEEDED = ("question_id", "scores")  # columns of an index that `Tally.add` reads
_USUAL = 32  # characters of the ids that bisieve makes: hashes as hex digits
_FEWEST = 2**18  # hashes that are merged at once, at least


def question_hashes(of_rows: pa.Array, seed: int) -> Hashes:
    """Return a 64-bit hash of the question id of each row; other seeds give independent hashes.

    Names of the usual length are hashed by array operations, twenty times as fast as one by one.

    Args:
        of_rows: The column ``question_id``, of strings.
        seed: Of the hashes.
    """
    _, offsets, data = of_rows.buffers()
    ends = np.frombuffer(offsets, np.int32)[of_rows.offset : of_rows.offset + len(of_rows) + 1]
    if not len(of_rows) or (np.diff(ends) != _USUAL).any():
        texts = of_rows.to_pylist()
        usual = [place for place, text in enumerate(texts) if len(text.encode()) == _USUAL]
        hashes = seeded_hashes(texts, seed)
        if usual:  # which have the same hash in a column of such names alone
            hashes[usual] = question_hashes(of_rows.take(pa.array(usual)), seed)
        return hashes
    words = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]].view("<u8").reshape(len(of_rows), -1)
    hashes = np.full(len(of_rows), seed, np.uint64)
    for column in words.T:
        hashes = splitmix64(hashes ^ column)
    return hashes


@dataclass
class QuestionCounts:
    """The number of rollouts of each question."""

    _names: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))  # sorted, all different
    _counts: Counts = field(default_factory=lambda: np.zeros(0, np.uint32))  # of these
    _waiting: list[Hashes] = field(default_factory=list)
    _waiting_rows: int = 0

    def add(self, hashes: Hashes) -> None:
        """Count one rollout for each of ``hashes``."""
        self._waiting.append(hashes)
        self._waiting_rows += len(hashes)
        if self._waiting_rows > max(_FEWEST, len(self._names) // 4):  # so each is moved a few times only
            self._merge()

    def _merge(self) -> None:
        # Not np.unique of all names, whose memory for a moment is several times that of the names.
        found, counts = np.unique(np.concatenate(self._waiting), return_counts=True)
        self._waiting, self._waiting_rows = [], 0
        place = np.searchsorted(self._names, found)
        is_known = np.zeros(len(found), np.bool_)
        inside = place < len(self._names)
        is_known[inside] = self._names[place[inside]] == found[inside]
        self._counts[place[is_known]] += counts[is_known].astype(np.uint32)
        place = place[~is_known]
        self._names = np.insert(self._names, place, found[~is_known])
        self._counts = np.insert(self._counts, place, counts[~is_known].astype(np.uint32))

    @property
    def counts(self) -> Counts:
        """Return the number of rollouts of each question."""
        if self._waiting:
            self._merge()
        return self._counts


@dataclass(frozen=True)
class Statistics:
    """Counts of a set of rollouts, and what follows from them."""

    rollouts: int
    mixed: int  # rollouts with positive and negative steps
    all_positive: int
    all_negative: int
    questions: int  # distinct ones
    most_of_a_question: int  # rollouts of the question that has most
    positions: Floats  # [positions]: of steps in their rollouts, in (0, 1), sorted
    labels: Ints  # [positions, 2]: negative and positive steps at each position

    @property
    def steps(self) -> int:
        """Return the number of steps."""
        return int(self.labels.sum())

    @property
    def negative_share(self) -> float:
        """Return the share of negative steps; NaN without steps."""
        return _share(self.labels.sum(axis=0))

    @property
    def negative_by_fifth(self) -> list[float]:
        """Return the share of negative steps in each fifth of a rollout; NaN for a fifth without steps."""
        fifth = (self.positions * FIFTHS).astype(np.int64)
        return [_share(self.labels[fifth == number].sum(axis=0)) for number in range(FIFTHS)]

    @property
    def all_negative_share(self) -> float:
        """Return the share of rollouts without a positive step; NaN without rollouts."""
        return self.all_negative / self.rollouts if self.rollouts else np.nan

    @property
    def rollouts_per_question(self) -> float:
        """Return the mean number of rollouts of a question; NaN without rollouts."""
        return self.rollouts / self.questions if self.questions else np.nan

    @property
    def shortcut(self) -> float:
        """Return the AUC of position → label; NaN if all labels are equal.

        It is the probability that a positive step is earlier in its rollout than a negative step is in its
        own (equal positions count half).  0.5: the position tells nothing.  The position of step j of n is
        (j − ½)/n: relative, so that rollouts of any length compare.  A causal model knows only j, but it also
        reads how solutions end; with j alone the AUC is nearly the same (synthetic corpus: 0.67, not 0.68).
        """
        negative, positive = self.labels.T.astype(np.float64)
        pairs = negative.sum() * positive.sum()
        earlier = np.cumsum(positive) - positive / 2
        return float(negative @ earlier / pairs) if pairs else np.nan

    @property
    def shortcut_strength(self) -> float:
        """Return how well the position tells the label, in [0, ½]: |AUC − ½|; NaN if all labels are equal.

        A model can learn as much from an AUC of 0.1, where early steps are the negative ones, as from 0.9.
        """
        return abs(self.shortcut - 0.5)

    def numbers(self) -> dict[str, Any]:
        """Return all numbers by name for a JSON document, with None in place of NaN."""
        values = {
            "rollouts": self.rollouts, "steps": self.steps, "mixed": self.mixed,
            "all_positive": self.all_positive, "all_negative": self.all_negative,
            "questions": self.questions, "rollouts_per_question": self.rollouts_per_question,
            "most_rollouts_of_a_question": self.most_of_a_question,
            "negative_share": self.negative_share, "position_auc": self.shortcut,
        }  # fmt: skip
        fifths = [_or_none(share) for share in self.negative_by_fifth]
        return {name: _or_none(value) for name, value in values.items()} | {"negative_by_fifth": fifths}

    def __repr__(self) -> str:
        """Return one line with the numbers that matter most."""
        return (
            f"<Statistics: {self.rollouts:,} rollouts of {self.questions:,} questions, "
            f"{self.negative_share:.1%} negative steps, AUC of position {self.shortcut:.2f}>"
        )


def has_stronger_shortcut(selection: Statistics, corpus: Statistics) -> bool:
    """Return whether position tells the label better than in the corpus, by more than `SHORTCUT_MARGIN`."""
    # False where a strength is NaN.
    return selection.shortcut_strength - corpus.shortcut_strength > SHORTCUT_MARGIN


def _or_none(value: float) -> float | None:
    return value if value == value else None


def _share(counts: Ints) -> float:
    negative, positive = counts.tolist()
    return negative / (negative + positive) if negative + positive else np.nan


def _numbered(codes: Ints) -> tuple[Ints, Ints]:
    """Return the different ``codes``, and the number of each code in these; small ones are not sorted."""
    if codes.max() > _MOST_CODES:
        return np.unique(codes, return_inverse=True)
    is_used = np.zeros(int(codes.max()) + 1, np.bool_)
    is_used[codes] = True
    return np.flatnonzero(is_used), (np.cumsum(is_used) - 1)[codes]


@dataclass
class Tally:
    """Adds up the counts of rows that come in batches."""

    threshold: float = 0.0  # a step is positive when its score exceeds it
    kinds: Ints = field(default_factory=lambda: np.zeros(3, np.int64))  # all-negative, mixed, all-positive
    positions: Floats = field(default_factory=lambda: np.zeros(0))
    labels: Ints = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    _questions: QuestionCounts = field(default_factory=QuestionCounts)

    def add(self, rows: pa.Table) -> None:
        """Count ``rows``, which have the columns `NEEDED`."""
        if not rows.num_rows:
            return
        scores = rows["scores"].combine_chunks()
        steps = pc.list_value_length(scores).to_numpy().astype(np.int64)
        positive = scores.flatten().to_numpy() > self.threshold
        owner = np.repeat(np.arange(len(steps)), steps)
        found = np.bincount(owner, weights=positive, minlength=len(steps))
        self.kinds += np.bincount((found > 0).astype(np.int64) + (found == steps), minlength=3)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(steps) - steps, steps)
        self._count(steps[owner], place, positive)
        # Hashes, not names: the questions of millions of rollouts must fit into memory.
        self._questions.add(question_hashes(rows["question_id"].combine_chunks(), 0))

    def _count(self, steps: Ints, place: Ints, positive: npt.NDArray[np.bool_]) -> None:
        # First by (steps, place), of which there are few: sorting the positions of all steps takes longest.
        wide = int(steps.max()) + 1
        names, number = _numbered(steps * wide + place)
        counts = [np.bincount(number[kind], minlength=len(names)) for kind in (~positive, positive)]
        steps, place = np.divmod(names, wide)
        # The quotient of integers is rounded correctly, so equal positions are equal floats.
        both = np.concatenate([self.positions, (2 * place + 1) / (2 * steps)])
        labels = np.concatenate([self.labels, np.stack(counts, axis=1)]).T
        self.positions, at = np.unique(both, return_inverse=True)
        self.labels = np.stack([np.bincount(at, weights=each).astype(np.int64) for each in labels], axis=1)

    @property
    def of_questions(self) -> npt.NDArray[np.uint32]:
        """Return the number of rollouts of each question."""
        return self._questions.counts

    def statistics(self) -> Statistics:
        """Return the statistics of all rows that were added."""
        of_question = self.of_questions
        all_negative, mixed, all_positive = self.kinds.tolist()
        return Statistics(
            all_negative + mixed + all_positive, mixed, all_positive, all_negative, len(of_question),
            int(of_question.max(initial=0)), self.positions, self.labels,
        )  # fmt: skip


def statistics_of(rows: pa.Table, threshold: float = 0.0) -> Statistics:
    """Return the statistics of rows of an index.

    Args:
        rows: A table with at least the columns `NEEDED`.
        threshold: A step is positive when its score exceeds it.
    """
    tally = Tally(threshold)
    tally.add(rows)
    return tally.statistics()


def index_statistics(
    index: Index, fractions: Sequence[float] = (), threshold: float | None = None,
    exclusion: Exclusion = NOTHING,
) -> tuple[Statistics, list[Statistics]]:  # fmt: skip
    """Return the statistics of all rollouts of an index, and of its selections, from one pass over the rows.

    Args:
        index: The version to read; of each row group only a few columns.
        fractions: Shares of rollouts to select, each in (0, 1].
        threshold: A step is positive when its score exceeds it; by default as when the index was ranked.
        exclusion: Rollouts that are not counted.

    Returns:
        The statistics of the corpus, and those of each selection.

    Raises:
        UsageError: A fraction is outside (0, 1].
        IndexUnusableError: A file of the index is missing or damaged.
    """
    parameters = index.manifest.parameters
    threshold = parameters.threshold if threshold is None else threshold
    limits = [index.limits(fraction) for fraction in fractions]
    columns = ["source", "rank", *NEEDED, *(["rollout_id"] if exclusion.ids else [])]
    corpus, selections = Tally(threshold), [Tally(threshold) for _ in fractions]
    for part in index.files:
        with open_part(index.url, part) as file:
            for group in range(file.num_row_groups):
                rows = exclusion.without(file.read_row_group(group, columns, use_threads=False))
                corpus.add(rows)
                source = rows["source"].combine_chunks().dictionary_encode()
                names, codes = source.dictionary.to_pylist(), source.indices.to_numpy()
                for tally, limit in zip(selections, limits, strict=True):
                    last = np.array([limit[name] for name in names], np.int64)[codes]
                    tally.add(rows.filter(pa.array(rows["rank"].to_numpy() <= last)))
    return corpus.statistics(), [tally.statistics() for tally in selections]
