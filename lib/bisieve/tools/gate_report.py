"""What the terminal shows of a verdict."""

from collections.abc import Mapping

from bisieve.gate.verdict import Line, Verdict
from bisieve.table import aligned
from bisieve.wording import counted

SHOWN = 30  # lines of sources; all are judged


def gate_report(verdict: Verdict) -> str:
    """A table, what could not be compared, new and vanished sources, limits, and the two versions."""
    end = f"BIS@{verdict.now.fraction:.4g}"
    head = ("source", "rollouts", "before", "rejected", "mixed", "before", "drift", end, "before", "drift")
    *sources, whole = verdict.lines
    shown = sorted(sources, key=_drifted, reverse=True)[:SHOWN]
    lines = aligned([head, *(_row(line) for line in (*(s for s in sources if s in shown), whole))])
    if len(sources) > len(shown):
        lines.append(f"and {len(sources) - len(shown)} that drifted less")
    lines += [f"not compared: {what}" for what in verdict.uncompared]
    lines += _sources("new", verdict.new) + _sources("vanished", verdict.vanished)
    limits = verdict.limits
    lines.append(
        f"limits: rejected {limits.reject_rate:.2%}, mixture drift {limits.mixture_drift:.2%}, "
        f"score drift {limits.score_drift:.2%}, lost rollouts {limits.lost:.2%}; "
        f"of sources with {limits.min_rollouts} rollouts or more"
    )
    before = verdict.before.name if verdict.before else "none, so nothing to drift from"
    lines.append(f"index {verdict.now.index.url}: version {verdict.now.name}, before {before}")
    return "\n".join(lines)


def _drifted(line: Line) -> tuple[float, int]:
    return max(line.mixture_drift or 0, line.score_drift or 0, line.lost or 0), line.now.rollouts


def _row(line: Line) -> tuple[str, ...]:
    now, before = line.now, line.before
    return (
        line.name,
        str(now.rollouts),
        str(before.rollouts),
        _share(now.reject_rate if now.records else None),
        *(_share(held.mixed_share if held.rollouts else None) for held in (now, before)),
        _share(line.mixture_drift),
        *("-" if held.bis is None else f"{held.bis:.4f}" for held in (now, before)),
        _share(line.score_drift),
    )


def _share(number: float | None) -> str:
    return "-" if number is None else f"{number:.2%}"


def _sources(what: str, rollouts: Mapping[str, int]) -> list[str]:
    named = [f"{name} ({counted(number, 'rollout')})" for name, number in [*rollouts.items()][:SHOWN]]
    more = f" and {len(rollouts) - SHOWN} more" if len(rollouts) > SHOWN else ""
    return [f"{what}: {', '.join(named)}{more}"] if named else []
