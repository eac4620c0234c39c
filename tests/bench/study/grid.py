"""The runs of the study, in the order in which they are made: the most important first."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.study.recipe import MAIN, REGIMES

CORPORA = (0, 1, 2)  # seeds
ONE_PASS, EQUAL_STEPS = "one pass", "equal steps"  # equal steps: as many as one pass over all of the corpus
UNTRAINED = "untrained"  # the base itself
CONTROL = "control"  # random mixed rollouts with BIS's share of negative steps: `control.control_rows`


@dataclass(frozen=True)
class Run:
    """One training and its evaluation."""

    corpus: int  # seed of the corpus
    seed: int  # of the order of the rollouts, and of a random selection
    strategy: str
    fraction: float
    alpha: float = 0.05
    regime: str = MAIN.name
    budget: str = ONE_PASS
    ties: str = "file"
    objective: str = "hard"
    label_threshold: float = 0.0
    base: str = ""  # another base than the regime's

    @property
    def name(self) -> str:
        """Return what is compared: the strategy and the options that differ from the usual."""
        usual = Run(0, 0, self.strategy, self.fraction)
        options = ("alpha", "ties", "objective", "label_threshold", "base")
        others = [
            f"{option} {getattr(self, option):g}" if option in ("alpha", "label_threshold")
            else str(getattr(self, option))
            for option in options
            if getattr(self, option) != getattr(usual, option)
        ]  # fmt: skip
        return " ".join([self.strategy, *others])

    @property
    def epochs(self) -> int:
        """Return the passes over the selection."""
        return 1 if self.budget == ONE_PASS else max(1, round(1 / self.fraction))

    def fields(self) -> dict[str, Any]:
        """Return all fields by name."""
        return asdict(self)


COMPARED = (("bis", 0.05), ("bis", 0.2), ("random", 0.05), ("paired", 0.05))
OF_MAIN_GRID = (
    *COMPARED, ("mixed", 0.05), ("reliable", 0.05), ("low_mc", 0.05), ("stratified", 0.05), (CONTROL, 0.05)
)  # fmt: skip


def full(corpus: int, seed: int, **options: Any) -> Run:
    """Return the run on all of a corpus."""
    return Run(corpus, seed, "all", 1.0, **options)


def untrained(corpus: int, regime: str = MAIN.name) -> Run:
    """Return the evaluation of the base."""
    return Run(corpus, 0, UNTRAINED, 0.0, regime=regime)


def compared(
    corpora: Sequence[int], seeds: Sequence[int], fractions: Sequence[float], **options: Any
) -> Iterator[Run]:
    """Yield the strategies of the main comparison, seed by seed over all corpora, and all of each corpus."""
    for seed in seeds:
        for corpus in corpora:
            yield full(corpus, seed, **{name: of for name, of in options.items() if name != "budget"})
            for fraction in fractions:
                for strategy, alpha in COMPARED:
                    yield Run(corpus, seed, strategy, fraction, alpha, **options)


def main_grid(corpora: Sequence[int], seeds: Sequence[int]) -> Iterator[Run]:
    """Yield all strategies at all fractions, seed by seed, and each fraction over all corpora."""
    for seed in seeds:
        for fraction in (0.1, 0.25, 0.05, 0.5):
            for corpus in corpora:
                for strategy, alpha in OF_MAIN_GRID:
                    yield Run(corpus, seed, strategy, fraction, alpha)


def objectives(corpora: Sequence[int], seeds: Sequence[int]) -> Iterator[Run]:
    """Yield the objectives and label thresholds at 25 %, of random rollouts and of the best by BIS."""
    for seed in seeds:
        for corpus in corpora:
            for strategy in ("random", "bis"):
                at = Run(corpus, seed, strategy, 0.25)
                yield replace(at, objective="soft")
                yield replace(at, objective="beta-binomial")
                yield replace(at, label_threshold=1 / 16)
                yield replace(at, label_threshold=2 / 16)


def ties(corpora: Sequence[int], seeds: Sequence[int]) -> Iterator[Run]:
    """Yield BIS by the rules for ties at 25 and 50 %."""
    for seed in seeds:
        for corpus in corpora:
            for fraction in (0.25, 0.5):
                for rule in ("hash", "spread"):
                    yield Run(corpus, seed, "bis", fraction, ties=rule)


def large(seeds: Sequence[int]) -> Iterator[Run]:
    """Yield the main comparison on a large corpus, of which not even a quarter is needed; all is too much."""
    for seed in seeds:
        yield Run(0, seed, "random", 0.25, regime="large")
        for fraction in (0.01, 0.05):
            for strategy, alpha in COMPARED:
                yield Run(0, seed, strategy, fraction, alpha, regime="large")


def whole_study() -> list[Run]:
    """Return all runs, without repetitions."""
    small, few, others = (0.1, 0.25), (0, 1, 2), ("full-annotation", "corrected", "reading")
    runs = [
        *compared(CORPORA, [0], small),
        *(untrained(corpus, name) for name in (MAIN.name, *others) for corpus in CORPORA),
        *main_grid(CORPORA, [0]),
        *compared(CORPORA, [1, 2], small),
        *(Run(corpus, seed, "random", at) for seed in (1, 2) for corpus in CORPORA for at in (0.05, 0.5)),
        *(run for name in others for run in compared(CORPORA, [0], small, regime=name)),
        *objectives(CORPORA, [0]),
        *ties(CORPORA, [0]),
        *compared(CORPORA, [0], small, budget=EQUAL_STEPS),
        *compared(CORPORA, [1, 2], [0.1], budget=EQUAL_STEPS),
        *main_grid(CORPORA, [1, 2]),
        *compared(CORPORA, [3, 4], small),
        *compared(CORPORA, [1, 2], small, budget=EQUAL_STEPS),
        *(run for name in others for run in compared(CORPORA, [1, 2], small, regime=name)),
        *large(few),
        *objectives(CORPORA, [1, 2]),
        *ties(CORPORA, [1, 2]),
        *compared(CORPORA, [3, 4], small, budget=EQUAL_STEPS),
    ]
    return list(dict.fromkeys(runs))


def small_study() -> list[Run]:
    """Return the runs of ten minutes: the main comparison on two corpora, with two seeds."""
    bases = [untrained(corpus) for corpus in CORPORA[:2]]
    return list(dict.fromkeys([*bases, *compared(CORPORA[:2], [0, 1], (0.1, 0.25))]))


assert set(REGIMES) >= {run.regime for run in whole_study()}
