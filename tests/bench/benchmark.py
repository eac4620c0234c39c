"""Runs a plan: all its cases on all their corpora, and what came of the requirements."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.corpora.make import Corpus, make_corpus
from bench.plan import Case, Plan, size_name
from bench.requirements import Verdict, judge
from bench.trial import Trial, compare_ranks, run_case


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found."""

    scale: float  # all sizes were made so many times as large
    corpora: dict[str, Corpus]  # by case/size
    measured: dict[str, dict[str, float]]  # case/size/contender → metric → number
    failures: dict[str, str]  # case/size/contender → why it has no numbers
    verdicts: list[Verdict]

    @property
    def failed(self) -> bool:
        """Whether something broke, disagreed or missed its requirement."""
        return bool(self.failures) or any(verdict.failed for verdict in self.verdicts)


def run_plan(plan: Plan, scale: float, work: Path, say: Callable[[str], None]) -> Outcome:
    """Makes the corpora below ``work``, runs the contenders, judges; ``say`` gets a line a run."""
    corpora: dict[str, Corpus] = {}
    trials: dict[str, Trial] = {}
    measured: dict[str, dict[str, float]] = {}
    for case in plan.cases:
        for size in case.sizes:
            where, corpus = f"{case.name}/{size_name(size)}", None
            if case.corpus is not None:
                corpus = corpora[where] = make_corpus(case.corpus, size * scale, work / "corpora")
                say(f"{where}: {corpus.rollouts:,} rollouts, {corpus.steps:,} steps, {corpus.bytes:,} bytes")
            ran = run_case(case, size, scale, plan.contenders, corpus, work, say)
            trials |= {trial.place: trial for trial in ran}
            twin = trials.get(_first_of(plan.cases, case.agrees_with, size))
            if twin is not None:
                compare_ranks(ran[0], twin, work)
            measured |= {trial.place: trial.metrics(corpus) for trial in ran}
    failures = {place: trial.failure for place, trial in trials.items() if trial.failure is not None}
    return Outcome(scale, corpora, measured, failures, judge(plan.requirements, measured, set(trials)))


def _first_of(cases: tuple[Case, ...], name: str | None, size: float) -> str:
    contender = next((case.contenders[0] for case in cases if case.name == name), "")
    return f"{name}/{size_name(size)}/{contender}"
