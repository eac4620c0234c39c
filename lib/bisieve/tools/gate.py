"""Compare two versions of an index; `gate_report.refuse` then checks the result against the limits.

version_stats (now) ────┐
                        ├─▶ judge ─▶ GateResult: a line per source with its drifts; sources not compared
version_stats (before) ─┘
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bisieve.errors import UsageError
from bisieve.index.cutoffs import ALL, cutoff_scores
from bisieve.index.reader import Index


@dataclass(frozen=True)
class SourceStats:
    """Statistics of one source in a version, or of several sources summed up."""

    rollouts: int  # usable rollouts
    mixed: int  # rollouts with both positive and negative steps
    rejected: int  # records
    bis: float | None  # cutoff score; for several sources the mean weighted by rollouts; None: no cutoff

    @property
    def mixed_share(self) -> float:
        """Return the share of mixed rollouts in [0, 1]; 0 if there are no rollouts."""
        return self.mixed / self.rollouts if self.rollouts else 0.0

    @property
    def reject_rate(self) -> float:
        """Return the share of rejected records in [0, 1]; 0 if there are no records."""
        return self.rejected / self.records if self.records else 0.0

    @property
    def records(self) -> int:
        """Return the number of usable rollouts plus rejected records."""
        return self.rollouts + self.rejected


NOTHING = SourceStats(0, 0, 0, None)


@dataclass(frozen=True)
class VersionStats:
    """Statistics of one version, per source and for the whole index."""

    index: Index
    fraction: float  # of the selection, in (0, 1]
    sources: Mapping[str, SourceStats]
    whole: SourceStats  # all sources summed up; bis is None with scope=source

    @property
    def name(self) -> str:
        """Return the version's short name: the first 16 hex digits of its fingerprint."""
        return self.index.fingerprint[:16]


def version_stats(index: Index, fraction: float) -> VersionStats:
    """Return the statistics of ``index`` and the cutoff scores of its selection of ``fraction``.

    Raises:
        UsageError: ``fraction`` is outside (0, 1].
        IndexUnusableError: A file of the index is missing or damaged.
    """
    ends = cutoff_scores(index, fraction)
    sources = {
        row["source"]: SourceStats(
            row["rollouts"], row["mixed"], sum(reason["records"] for reason in row["rejected"]),
            ends.get(row["source"]),
        )
        for row in index.sources.select(["source", "rollouts", "mixed", "rejected"]).to_pylist()
    }  # fmt: skip
    counts = add_stats(sources.values())
    return VersionStats(
        index, fraction, sources, SourceStats(counts.rollouts, counts.mixed, counts.rejected, ends.get(ALL))
    )


def add_stats(parts: Iterable[SourceStats]) -> SourceStats:
    """Sum up several sources; ``bis`` is the mean of their cutoff scores weighted by rollouts."""
    parts = list(parts)
    ended = [(part.bis, part.rollouts) for part in parts if part.bis is not None]
    weight = sum(rollouts for _, rollouts in ended)
    return SourceStats(
        sum(part.rollouts for part in parts),
        sum(part.mixed for part in parts),
        sum(part.rejected for part in parts),
        sum(bis * rollouts for bis, rollouts in ended) / weight if weight else None,
    )


@dataclass(frozen=True)
class Limits:
    """The limits of the gate; a value equal to its limit passes."""

    reject_rate: float = 0.01  # rejected records / all records, over all sources
    mixture_drift: float = 0.05  # change of a source's share of mixed rollouts, absolute
    score_drift: float = 0.10  # change of the BIS of a source's last selected rollout, relative to before
    lost: float = 0.20  # rollouts lost / rollouts before, of a source and of the whole index
    min_rollouts: int = 1000  # smaller sources are compared as one: chance alone may move their shares so far

    def check(self) -> None:
        """Check that every limit is in its range.

        Raises:
            UsageError: A limit is negative, NaN, or above 1 where it is a share.
        """
        for name, most in (
            ("reject_rate", 1.0), ("mixture_drift", 1.0), ("score_drift", math.inf), ("lost", 1.0)
        ):  # fmt: skip
            found = getattr(self, name)
            if not 0 <= found <= most:  # also true for NaN
                expected = "a share from 0 to 1" if most == 1 else "a number from 0 on"
                raise UsageError(expected, str(found), f"correct --max-{name.replace('_', '-')}")
        if self.min_rollouts < 1:
            raise UsageError("an integer of 1 or more", str(self.min_rollouts), "correct --min-rollouts")


@dataclass(frozen=True)
class Line:
    """A line of the result: one source, or several summed up, in both versions."""

    name: str
    now: SourceStats
    before: SourceStats
    mixture_drift: float | None = None  # None: not compared
    score_drift: float | None = None
    lost: float | None = None  # the net share of its rollouts that was lost; 0 if it grew


@dataclass(frozen=True)
class GateResult:
    """The outcome of a comparison."""

    now: VersionStats
    before: VersionStats | None  # None: there is no version to compare with
    limits: Limits
    lines: list[Line]  # by name of source, then all smaller sources as one, then the whole index
    new: dict[str, int]  # source → usable rollouts now, for sources that had none before
    vanished: dict[str, int]  # source → usable rollouts before, for sources that have none now
    uncompared: list[str]  # what was not compared, and why


@dataclass(frozen=True)
class _Comparison:
    """Which numbers of the two versions are comparable."""

    mixture: bool
    score: bool
    min_rollouts: int

    def line(self, name: str, now: SourceStats, before: SourceStats) -> Line:
        had = before.rollouts
        lost = max(0.0, 1 - now.rollouts / had) if had >= self.min_rollouts else None
        if min(now.rollouts, had) < self.min_rollouts:
            return Line(name, now, before, lost=lost)
        mixture = abs(now.mixed_share - before.mixed_share) if self.mixture else None
        score = _relative(now.bis, before.bis) if self.score else None
        return Line(name, now, before, mixture, score, lost)


def judge(now: VersionStats, before: VersionStats | None, limits: Limits) -> GateResult:
    """Compare two versions of an index.

    Sources with fewer than ``limits.min_rollouts`` rollouts in both versions are summed up in one line.
    Limits are not applied here: `gate_report.refuse` raises for values above them.
    """
    reasons = {"mixture and score": "there is no version before"} if before is None else _reasons(now, before)
    comparison = _Comparison("mixture and score" not in reasons, not reasons, limits.min_rollouts)
    had: Mapping[str, SourceStats] = before.sources if before else {}
    pairs = {
        name: (now.sources.get(name, NOTHING), had.get(name, NOTHING))
        for name in sorted({*now.sources, *had})
    }
    small = [name for name, pair in pairs.items() if max(h.rollouts for h in pair) < limits.min_rollouts]
    lines = [comparison.line(name, *pair) for name, pair in pairs.items() if name not in set(small)]
    if small:
        smaller = [add_stats(pairs[name][place] for name in small) for place in (0, 1)]
        lines.append(comparison.line(f"{len(small):,} smaller", *smaller))
    uncompared = [f"{what}: {why}" for what, why in reasons.items()]
    if not reasons and all(line.mixture_drift is None for line in lines):
        uncompared = [f"mixture and score: no source has {limits.min_rollouts:,} rollouts in both versions"]
    elif not reasons:
        uncompared = [
            f"mixture and score of {line.name}: {line.before.rollouts:,} → {line.now.rollouts:,} rollouts"
            for line in lines
            if line.mixture_drift is None and line.now.rollouts and line.before.rollouts
        ]
    # The mixture of the whole index changes when sources grow or shrink, so it is not compared; the score
    # is, where the selection is one over all sources (scope=global).
    whole = _Comparison(False, comparison.score, limits.min_rollouts)
    lines.append(whole.line("all", now.whole, before.whole if before else NOTHING))
    new = {
        name: is_now.rollouts for name, (is_now, was) in pairs.items() if is_now.rollouts > 0 == was.rollouts
    }
    gone = {
        name: was.rollouts for name, (is_now, was) in pairs.items() if was.rollouts > 0 == is_now.rollouts
    }
    return GateResult(now, before, limits, lines, new if before else {}, gone, uncompared)


def _relative(now: float | None, before: float | None) -> float | None:
    if now is None or before is None:
        return None
    if before == 0:
        return 0.0 if now == 0 else math.inf
    return abs(now / before - 1)


def _reasons(now: VersionStats, before: VersionStats) -> dict[str, str]:
    """Return the numbers that are not comparable between the versions, each with the reason."""
    asked, had = (one.index.manifest.parameters for one in (now, before))
    changed = {
        name: f"{name} {getattr(had, name)} → {getattr(asked, name)}"
        for name in ("threshold", "alpha", "strategy", "scope")
        if getattr(had, name) != getattr(asked, name)
    }
    if "threshold" in changed:
        return {"mixture and score": ", ".join(changed.values())}
    if changed:
        return {"score": ", ".join(changed.values())}
    return {} if asked.strategy == "bis" else {"score": f"strategy {asked.strategy} does not rank by it"}
