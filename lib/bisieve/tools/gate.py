"""Two versions of an index side by side: what has drifted, and by how much.

now ───┐
       ├─▶ a line a source, small ones as one ─▶ drifts, and what could not be compared
before ┘
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bisieve.gate.limits import Limits
from bisieve.gate.side import NOTHING, Held, Side, together


@dataclass(frozen=True)
class Line:
    """A source, or several, in both versions."""

    name: str
    now: Held
    before: Held
    mixture_drift: float | None = None  # None: not compared
    score_drift: float | None = None
    lost: float | None = None  # the share of its rollouts that is gone


@dataclass(frozen=True)
class Verdict:
    """What was found."""

    now: Side
    before: Side | None  # None: there is none
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

    def line(self, name: str, now: Held, before: Held) -> Line:
        had = before.rollouts
        lost = max(0.0, 1 - now.rollouts / had) if had >= self.min_rollouts else None
        if min(now.rollouts, had) < self.min_rollouts:
            return Line(name, now, before, lost=lost)
        mixture = abs(now.mixed_share - before.mixed_share) if self.mixture else None
        score = _relative(now.bis, before.bis) if self.score else None
        return Line(name, now, before, mixture, score, lost)


def judge(now: Side, before: Side | None, limits: Limits) -> Verdict:
    """Compares two versions; what exceeds its limit, `refusal.refuse` tells."""
    reasons = {"mixture and score": "there is no version before"} if before is None else _reasons(now, before)
    comparison = _Comparison("mixture and score" not in reasons, not reasons, limits.min_rollouts)
    had: Mapping[str, Held] = before.sources if before else {}
    pairs = {
        name: (now.sources.get(name, NOTHING), had.get(name, NOTHING))
        for name in sorted({*now.sources, *had})
    }
    small = [name for name, pair in pairs.items() if max(h.rollouts for h in pair) < limits.min_rollouts]
    lines = [comparison.line(name, *pair) for name, pair in pairs.items() if name not in set(small)]
    if small:
        smaller = [together(pairs[name][place] for name in small) for place in (0, 1)]
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
    # What the whole holds moves with the sources it is made of: only its cut, where it has one, is compared.
    whole = _Comparison(False, comparison.score, limits.min_rollouts)
    lines.append(whole.line("all", now.whole, before.whole if before else NOTHING))
    new = {
        name: is_now.rollouts for name, (is_now, was) in pairs.items() if is_now.rollouts > 0 == was.rollouts
    }
    gone = {
        name: was.rollouts for name, (is_now, was) in pairs.items() if was.rollouts > 0 == is_now.rollouts
    }
    return Verdict(now, before, limits, lines, new if before else {}, gone, uncompared)


def _relative(now: float | None, before: float | None) -> float | None:
    if now is None or before is None:
        return None
    if before == 0:
        return 0.0 if now == 0 else math.inf
    return abs(now / before - 1)


def _reasons(now: Side, before: Side) -> dict[str, str]:
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
