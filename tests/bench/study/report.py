"""What the results show: means with 95 % intervals over corpora, paired differences, and verdicts.

Seeds of one corpus share its pictures, its questions and its benchmark.  So the seeds of a corpus are
averaged first, and the interval is one over corpora.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
from scipy.stats import t as students_t

from bench.study.grid import CONTROL, EQUAL_STEPS, ONE_PASS, UNTRAINED
from bench.study.recipe import MAIN, REGIMES

Row = dict[str, Any]
Place = tuple[int, int]  # corpus and seed: runs of the same place are compared in pairs
LEAST = 3  # corpora that a verdict needs
MARGIN = 0.01  # of AUC: the deviation over seeds that the recipe was chosen for, and the sweep's δ

BIS, BIS_02, RANDOM, FULL = "bis", "bis alpha 0.2", "random", "all"
SMALL = (0.05, 0.1, 0.25, 0.5)  # fractions of the main grid
BEGIN, END = "<!-- tables of make study -->", "<!-- end of the tables -->"


@dataclass(frozen=True)
class Estimate:
    """A mean of the means of corpora, with its 95 % interval over corpora."""

    runs: int
    corpora: int
    mean: float
    low: float
    high: float
    ends: tuple[float, float] = (np.nan, np.nan)  # the least and the greatest value of a run

    @property
    def has_interval(self) -> bool:
        """Whether there are enough corpora for an interval."""
        return self.corpora >= LEAST

    def __str__(self) -> str:
        """Return it for a table."""
        if not self.runs:
            return "–"
        reach = f" ± {self.high - self.mean:.3f}" if self.has_interval else ""
        return f"{self.mean:.3f}{reach} ({self._of()})"

    @property
    def signed(self) -> str:
        """Return a difference for a table."""
        if not self.runs:
            return "–"
        interval = f" [{self.low:+.3f}, {self.high:+.3f}]" if self.has_interval else ""
        return f"{self.mean:+.3f}{interval} ({self._of('+')})"

    def _of(self, sign: str = "") -> str:
        """Return the number of runs; of one corpus also how far apart its seeds are."""
        if self.corpora > 1 or self.runs < 2:
            return str(self.runs)
        least, most = (f"{end:{sign}.3f}" for end in self.ends)
        return f"{self.runs}: {least} to {most}"

    def verdict(self, above: str = "better", below: str = "worse", margin: float = MARGIN) -> str:
        """Return what a difference shows: neither one run nor one corpus shows anything.

        An interval that holds 0 is no proof that there is no difference; one inside ±``margin`` is, that
        there is none that matters. The margin is 0 for numbers that are no differences of AUC.
        """
        if not self.has_interval:
            return "too few corpora"
        within = -margin < self.low and self.high < margin
        if self.low > 0 or self.high < 0:
            shown = above if self.low > 0 else below
            return f"{shown}, by less than {margin:g}" if within else shown
        return f"equivalent within ±{margin:g}" if within else "no difference shown"


def estimate(values: Mapping[Place, float]) -> Estimate:
    """Return the mean over corpora, each the mean of its seeds, and its interval by Student's t."""
    seeds: dict[int, list[float]] = defaultdict(list)
    for (corpus, _), value in values.items():
        seeds[corpus].append(value)
    n, ends = len(seeds), (min(values.values(), default=np.nan), max(values.values(), default=np.nan))
    means = np.array([np.mean(of) for of in seeds.values()])
    if n < 2:
        return Estimate(len(values), n, float(means[0]) if n else np.nan, np.nan, np.nan, ends)
    reach = float(students_t.ppf(0.975, n - 1) * np.std(means, ddof=1) / np.sqrt(n))
    mean = float(means.mean())
    return Estimate(len(values), n, mean, mean - reach, mean + reach, ends)


@dataclass(frozen=True)
class Runs:
    """Results by (regime, budget, name, fraction), then by corpus and seed."""

    found: dict[tuple[str, str, str, float], dict[Place, Row]]

    def of(
        self, name: str, fraction: float, regime: str = MAIN.name, budget: str = ONE_PASS
    ) -> dict[Place, Row]:
        """Return the runs of one cell; all of the corpus has one pass, whatever the budget."""
        if name in (FULL, UNTRAINED):
            fraction, budget = float(name == FULL), ONE_PASS
        return self.found.get((regime, budget, name, fraction), {})

    def mean(self, name: str, fraction: float, metric: str = "auc", **at: str) -> Estimate:
        """Return the mean of a metric."""
        return estimate({place: row[metric] for place, row in self.of(name, fraction, **at).items()})

    def difference(
        self,
        one: str,
        other: str,
        fraction: float,
        metric: str = "auc",
        fraction_of_other: float = 0.0,
        **at: str,
    ) -> Estimate:
        """Return the mean of ``one`` minus ``other``, over the corpora and seeds that both have."""
        a, b = self.of(one, fraction, **at), self.of(other, fraction_of_other or fraction, **at)
        return estimate({place: a[place][metric] - b[place][metric] for place in a.keys() & b.keys()})


def runs_of(rows: Iterable[Row]) -> Runs:
    """Return the results by what is compared."""
    found: dict[tuple[str, str, str, float], dict[Place, Row]] = defaultdict(dict)
    for row in rows:
        key = row["regime"], row["budget"], row["name"], row["fraction"]
        found[key][row["corpus"], row["seed"]] = row
    return Runs(dict(found))


def report(rows: Sequence[Row]) -> str:
    """Return all tables as Markdown; a study that is not finished says how many runs each cell has."""
    runs = runs_of(rows)
    parts = [
        f"{len(rows)} runs. A cell: mean AUC ± half of its 95 % interval over corpora (runs); of one corpus "
        "(runs: least to greatest). "
        "Means of different runs do not compare; differences are between runs of the same corpus and seed."
    ]
    for regime in REGIMES:
        for budget in (ONE_PASS, EQUAL_STEPS):
            if table := regime_table(runs, regime, budget):
                parts += [f"**{regime}**, {budget} ({REGIMES[regime].says})", table]
    parts += ["What a selection looks like (main, one pass), means", looks(runs)]
    if runs.of(FULL, 1.0):
        parts += [f"Steps to the quality of all (main, one pass): the smallest fraction whose mean AUC is at "
                  f"most {MARGIN:g} below that of all", steps_to_all(runs)]  # fmt: skip
    claims = findings(runs)
    shown = sum("[" in line for line in claims.splitlines())
    parts += ["Claims (main, one pass, where nothing else is said): differences of AUC, paired by corpus and "
              f"seed. {shown} of them have an interval; by chance about {shown / 20:.0f} of these would not "
              "hold the true value. Slopes are over the strategies of equal fraction.", claims]  # fmt: skip
    return "\n\n".join(part if part.startswith("|") else fill(part, 100) for part in parts)


def written_into(page: str, rows: Sequence[Row]) -> str:
    """Return ``page`` with the report between the comments `BEGIN` and `END`."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{report(rows)}\n\n{END}{rest.split(END)[1]}"


def regime_table(runs: Runs, regime: str, budget: str) -> str:
    """Return a row per strategy and a column per fraction; then the differences to random."""
    cells = [key for key in runs.found if key[:2] == (regime, budget) and key[2] not in (FULL, UNTRAINED)]
    if not cells:
        return ""
    fractions = sorted({key[3] for key in cells})
    names = sorted({key[2] for key in cells}, key=lambda name: (name not in (BIS, BIS_02, RANDOM), name))
    head = ["AUC", *(f"{fraction:.0%}" for fraction in fractions)]
    lines = [
        [name, *(str(runs.mean(name, at, regime=regime, budget=budget)) for at in fractions)]
        for name in names
    ]
    lines += [
        [name, *[str(runs.mean(name, 1.0, regime=regime))] * len(fractions)] for name in (FULL, UNTRAINED)
    ]
    of = UNTRAINED if runs.of(UNTRAINED, 0.0, regime=regime) else RANDOM  # all runs have the same
    lines += [
        ["by position alone",
         *(str(runs.mean(of, at, "position_baseline_auc", regime=regime, budget=budget)) for at in fractions)]
    ]  # fmt: skip
    lines += [
        [f"{name} − {RANDOM}",
         *(runs.difference(name, RANDOM, at, regime=regime, budget=budget).signed for at in fractions)]
        for name in names if name != RANDOM
    ]  # fmt: skip
    lines += [
        [f"{name} − {FULL}",
         *(runs.difference(name, FULL, at, regime=regime, budget=budget).signed for at in fractions)]
        for name in names
    ]  # fmt: skip
    return markdown(head, [line for line in lines if set(line[1:]) != {"–"}])


def steps_to_all(runs: Runs) -> str:
    """Return how many optimizer steps of one pass each strategy needs to be about as good as all."""
    lines = []
    for name in (BIS, BIS_02, RANDOM, "mixed", "reliable", "low_mc", "paired", "stratified", CONTROL):
        found = {at: runs.difference(name, FULL, at) for at in SMALL if runs.of(name, at)}
        good = [at for at, difference in found.items() if difference.mean >= -MARGIN]
        if good:
            at = good[0]
            steps = f"{runs.mean(name, at, 'optimizer_steps').mean:,.0f}"
            lines.append([name, f"{at:.0%}", steps, found[at].signed, found[at].verdict()])
        elif found:
            lines.append([name, f"none up to {max(found):.0%}", "–", "–", "–"])
    steps = f"{runs.mean(FULL, 1.0, 'optimizer_steps').mean:,.0f}"
    return markdown(["strategy", "fraction", "steps", f"− {FULL} ({steps} steps)", "verdict"], lines)


def looks(runs: Runs) -> str:
    """Return what the selections of the main regime look like, and how well position alone does."""
    metrics = ("mixed_share", "negative_share", "all_negative_share", "shortcut", "auc")
    cells = sorted(key for key in runs.found if key[:2] == (MAIN.name, ONE_PASS) and key[2] != UNTRAINED)
    lines = [
        [f"{name} {fraction:.0%}", *(f"{runs.mean(name, fraction, metric).mean:.2f}" for metric in metrics)]
        for _, _, name, fraction in cells
    ]
    return markdown(
        ["selection", "mixed", "negative steps", "all negative", "position → label", "AUC"], lines
    )


def findings(runs: Runs) -> str:
    """Return each claim with its difference and what it shows."""
    claims: list[tuple[str, Estimate]] = []
    claims += [(f"BIS (α 0.05) − random, {at:.0%}", runs.difference(BIS, RANDOM, at)) for at in SMALL]
    claims += [(f"BIS (α 0.2) − random, {at:.0%}", runs.difference(BIS_02, RANDOM, at)) for at in SMALL]
    claims += [(f"BIS (α 0.05) − BIS (α 0.2), {at:.0%}", runs.difference(BIS, BIS_02, at)) for at in SMALL]
    claims += [
        (f"{name} {at:.0%} − random {larger:.0%}",
         runs.difference(name, RANDOM, at, fraction_of_other=larger))
        for name in (BIS, BIS_02) for at, larger in ((0.05, 0.1), (0.1, 0.25), (0.25, 0.5))
    ]  # fmt: skip
    claims += [
        (f"{name} {at:.0%} − all", runs.difference(name, FULL, at))
        for name in (BIS, BIS_02, RANDOM) for at in (0.1, 0.25, 0.5)
    ]  # fmt: skip
    claims += [(f"mixed − random, {at:.0%}", runs.difference("mixed", RANDOM, at)) for at in SMALL]
    claims += [(f"BIS (α 0.05) − mixed, {at:.0%}", runs.difference(BIS, "mixed", at)) for at in SMALL]
    claims += [(f"BIS (α 0.05) − control, {at:.0%}", runs.difference(BIS, "control", at)) for at in SMALL]
    for name in ("reliable", "low_mc", "paired", "stratified"):
        claims += [(f"{name} − random, {at:.0%}", runs.difference(name, RANDOM, at)) for at in SMALL]
    claims += [(f"paired − BIS (α 0.05), {at:.0%}", runs.difference("paired", BIS, at)) for at in SMALL]
    claims += [
        (f"{regime}: BIS (α 0.05) − random, {at:.0%}", runs.difference(BIS, RANDOM, at, regime=regime))
        for regime in REGIMES if regime != MAIN.name for at in (0.01, 0.05, 0.1, 0.25)
    ]  # fmt: skip
    claims += [
        (f"{regime}: {name} {at:.0%} − all", runs.difference(name, FULL, at, regime=regime))
        for regime in REGIMES if regime != MAIN.name for name in (BIS, RANDOM) for at in (0.1, 0.25)
    ]  # fmt: skip
    claims += [
        (f"large: {name} {at:.0%} − random 25%",
         runs.difference(name, RANDOM, at, fraction_of_other=0.25, regime="large"))
        for name in (BIS, BIS_02, RANDOM, "paired") for at in (0.01, 0.05)
    ]  # fmt: skip
    claims += [
        (f"equal steps: {one} − {other}, {at:.0%}", runs.difference(one, other, at, budget=EQUAL_STEPS))
        for one, other in (
            (BIS, RANDOM), (BIS_02, RANDOM), ("paired", RANDOM), (BIS, BIS_02), (BIS, "paired"),
            (BIS, FULL), (BIS_02, FULL), ("paired", FULL), (RANDOM, FULL),
        ) for at in (0.1, 0.25)
    ]  # fmt: skip
    for name in (RANDOM, BIS):
        claims += [
            (
                f"{name}: {other.replace('label_', '')} − hard, 25%",
                runs.difference(f"{name} {other}", name, 0.25),
            )
            for other in ("soft", "beta-binomial", "label_threshold 0.0625", "label_threshold 0.125")
        ]
    claims += [
        (f"ties by {rule} − by file, {at:.0%}", runs.difference(f"bis {rule}", BIS, at))
        for rule in ("hash", "spread") for at in (0.25, 0.5)
    ]  # fmt: skip
    lines = [[claim, found.signed, found.verdict()] for claim, found in claims if found.runs]
    for budget in (ONE_PASS, EQUAL_STEPS):
        for title, metric in (("position → label", "shortcut"), ("negative steps", "negative_share")):
            found = slope(runs, metric, budget)
            if found.runs:
                said = found.verdict("rises with it", "falls with it", margin=0)
                what = f"AUC per 0.1 of {title}"
                lines.append([what + f", {budget}" * (budget != ONE_PASS), found.signed, said])
    return markdown(["claim", "difference", "verdict"], lines)


def slope(runs: Runs, metric: str, budget: str = ONE_PASS) -> Estimate:
    """Return how the AUC changes with a metric of the selection, by 0.1, over the strategies of a fraction.

    A slope is fitted for each corpus and seed, after the mean of each fraction was taken off.
    """
    of_place: dict[Place, list[tuple[float, float]]] = defaultdict(list)
    for fraction in SMALL:
        cells = [
            found for (regime, of, name, at), found in runs.found.items()
            if (regime, of, at) == (MAIN.name, budget, fraction) and " " not in name.replace(BIS_02, "")
        ]  # fmt: skip
        for place in {place for cell in cells for place in cell}:
            points = np.array([(cell[place][metric], cell[place]["auc"]) for cell in cells if place in cell])
            if len(points) > 3:
                of_place[place] += list(map(tuple, points - points.mean(0)))
    fit: Callable[[Any], float] = lambda x: float(x[:, 0] @ x[:, 1] / (x[:, 0] @ x[:, 0]) * 0.1)  # noqa: E731
    return estimate({place: fit(np.array(points)) for place, points in of_place.items()})


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
