"""Compare two versions of an index against limits of drift.

now ───┐
       ├─▶ a line a source, small ones as one ─▶ drifts, and what could not be compared
before ┘
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bisieve.errors import UsageError
from bisieve.tools.gate_stats import NOTHING, SourceStats, VersionStats, add_stats


@dataclass(frozen=True)
class Limits:
    """The limits of a gate; a number at its limit passes."""

    reject_rate: float = 0.01  # rejected records / all records, over all sources
    mixture_drift: float = 0.05  # change of a source's share of mixed rollouts, absolute
    score_drift: float = 0.10  # change of the BIS at which its selection ends, relative to the one before
    lost: float = 0.20  # rollouts of a source, and of all, that are gone / those of the version before
    min_rollouts: int = 1000  # of a source in either version: of fewer, chance alone moves a share that far

    def check(self) -> None:
        """`UsageError` for a limit that cannot be."""
        for name, most in (
            ("reject_rate", 1.0), ("mixture_drift", 1.0), ("score_drift", math.inf), ("lost", 1.0)
        ):  # fmt: skip
            found = getattr(self, name)
            if not 0 <= found <= most:  # nan, too
                expected = "a share from 0 to 1" if most == 1 else "a number from 0 on"
                raise UsageError(expected, str(found), f"correct --max-{name.replace('_', '-')}")
        if self.min_rollouts < 1:
            raise UsageError("an integer of 1 or more", str(self.min_rollouts), "correct --min-rollouts")


@dataclass(frozen=True)
class Line:
    """A source, or several, in both versions."""

    name: str
    now: SourceStats
    before: SourceStats
    mixture_drift: float | None = None  # None: not compared
    score_drift: float | None = None
    lost: float | None = None  # the share of its rollouts that is gone


@dataclass(frozen=True)
class GateResult:
    """What was found."""

    now: VersionStats
    before: VersionStats | None  # None: there is none
    limits: Limits
    lines: list[Line]  # by source, then the small ones as one, then all
    new: dict[str, int]  # usable rollouts of sources that had none before
    vanished: dict[str, int]  # those that sources had that have none now
    uncompared: list[str]  # what was not compared, and why


@dataclass(frozen=True)
class _Comparison:
    """Which numbers of the two versions mean the same."""

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
    """Compares two versions; what exceeds its limit, `gate_report.refuse` tells."""
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
        lines.append(comparison.line(f"{len(small)} small", *smaller))
    uncompared = [f"{what}: {why}" for what, why in reasons.items()]
    if not reasons and all(line.mixture_drift is None for line in lines):
        uncompared = [f"mixture and score: no source has {limits.min_rollouts} rollouts in both versions"]
    elif not reasons:
        uncompared = [
            f"mixture and score of {line.name}: {line.before.rollouts} → {line.now.rollouts} rollouts"
            for line in lines
            if line.mixture_drift is None and line.now.rollouts and line.before.rollouts
        ]
    # What the whole holds moves with the sources it is made of: only its selection, where it has one, is
    # compared.
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
    """What does not mean the same in both versions, and why."""
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
