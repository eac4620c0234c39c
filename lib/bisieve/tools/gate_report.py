"""Show the gate's result as text (`gate_report`), and raise if a value exceeds its limit (`refuse`)."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from bisieve._text import Report, Table, percent, pluralize
from bisieve.errors import GateError
from bisieve.tools.gate import GateResult, Line

SHOWN = 30  # sources in the table, those that drifted most; limits apply to all


def gate_report(verdict: GateResult) -> Report:
    """Return the result as text of several lines.

    It has a table with a line per source and one for the whole index, then what was not compared, new and
    vanished sources, the limits and the two versions.
    """
    end = f"BIS@{percent(verdict.now.fraction)}"
    head = ("source", "rollouts", "before", "rejected", "mixed", "before", "drift", end, "before", "drift")
    *sources, whole = verdict.lines
    shown = sorted(sources, key=_drifted, reverse=True)[:SHOWN]
    rows = [_row(line) for line in (*(s for s in sources if s in shown), whole)]
    lines = []
    if len(sources) > len(shown):
        lines.append(f"and {len(sources) - len(shown):,} that drifted less")
    lines += [f"not compared: {what}" for what in verdict.uncompared]
    lines += _sources("new", verdict.new) + _sources("vanished", verdict.vanished)
    limits = verdict.limits
    lines.append(
        f"limits: rejected {percent(limits.reject_rate)}, mixture drift {percent(limits.mixture_drift)}, "
        f"score drift {percent(limits.score_drift)}, lost rollouts {percent(limits.lost)}"
    )
    lines.append(f"sources of fewer than {limits.min_rollouts:,} rollouts are compared as one")
    before = verdict.before.name if verdict.before else "none, so nothing to drift from"
    word = "FAILED" if _failures(verdict) else "PASSED"
    lines.append(f"{word}: index {verdict.now.index.url}, version {verdict.now.name}, before {before}")
    return Report(Table(head, rows), *lines)


def gate_document(verdict: GateResult) -> dict[str, Any]:
    """Return the result for a JSON document, with all sources."""
    failures = _failures(verdict)
    return {
        "index": verdict.now.index.url,
        "version": verdict.now.name,
        "before": verdict.before.name if verdict.before else None,
        "fraction": verdict.now.fraction,
        "passed": not failures,
        "failures": [{"expected": expected, "found": found} for expected, found in failures],
        "limits": asdict(verdict.limits),
        "lines": [asdict(line) for line in verdict.lines],
        "new": verdict.new,
        "vanished": verdict.vanished,
        "not_compared": verdict.uncompared,
    }


def passes(verdict: GateResult) -> bool:
    """Return whether all values are within their limits."""
    return not _failures(verdict)


def _drifted(line: Line) -> tuple[float, int]:
    return max(line.mixture_drift or 0, line.score_drift or 0, line.lost or 0), line.now.rollouts


def _row(line: Line) -> tuple[str, ...]:
    now, before = line.now, line.before
    return (
        line.name,
        f"{now.rollouts:,}",
        f"{before.rollouts:,}",
        _share(now.reject_rate if now.records else None),
        *(_share(held.mixed_share if held.rollouts else None) for held in (now, before)),
        _share(line.mixture_drift),
        *("-" if held.bis is None else f"{held.bis:.4f}" for held in (now, before)),
        _share(line.score_drift),
    )


def _share(number: float | None) -> str:
    return "-" if number is None else f"{number:.2%}"


def _sources(what: str, rollouts: Mapping[str, int]) -> list[str]:
    named = [f"{name} ({pluralize(number, 'rollout')})" for name, number in [*rollouts.items()][:SHOWN]]
    more = f" and {len(rollouts) - SHOWN:,} more" if len(rollouts) > SHOWN else ""
    return [f"{what}: {', '.join(named)}{more}"] if named else []


def refuse(verdict: GateResult) -> None:
    """Raise an error if a value exceeds its limit.

    Raises:
        GateError: At least one value exceeds its limit. The error names, for each limit, the largest such
            value and the number of others.
    """
    if failures := _failures(verdict):
        expected, found = (", ".join(parts) for parts in zip(*failures, strict=True))
        raise GateError(
            f"{expected} in version {verdict.now.name} of {verdict.now.index.url}", found,
            "correct the shards, score again, or raise the limit; bisieve report and bisieve diff show more",
        )  # fmt: skip


def _failures(verdict: GateResult) -> list[tuple[str, str]]:
    """Return, for each limit that a value exceeds, what was expected and what was found."""
    limits = verdict.limits
    failures = _rejects(verdict)
    failures += _drifts("mixture drift", limits.mixture_drift, {
        line.name: (line.mixture_drift, _mixed(line)) for line in verdict.lines
    })  # fmt: skip
    failures += _drifts("score drift", limits.score_drift, {
        line.name: (line.score_drift, _ends(line)) for line in verdict.lines
    })  # fmt: skip
    failures += _drifts("lost rollouts", limits.lost, {
        line.name: (line.lost, f"{line.before.rollouts:,} → {line.now.rollouts:,}") for line in verdict.lines
    })  # fmt: skip
    return failures


def _rejects(verdict: GateResult) -> list[tuple[str, str]]:
    whole, limit = verdict.now.whole, verdict.limits.reject_rate
    if whole.reject_rate <= limit:
        return []
    found = f"{whole.reject_rate:.2%} ({whole.rejected:,} of {whole.records:,})"
    return [(f"at most {percent(limit)} rejected records", f"{found} rejected")]


def _drifts(what: str, limit: float, found: dict[str, tuple[float | None, str]]) -> list[tuple[str, str]]:
    over = [(drift, name, moved) for name, (drift, moved) in found.items() if (drift or 0) > limit]
    if not over:
        return []
    drift, name, moved = max(over, key=lambda one: one[0] or 0)
    others = f" and {len(over) - 1:,} more" if len(over) > 1 else ""
    return [(f"at most {percent(limit)} {what}", f"{drift:.2%} {what} ({name}: {moved}){others}")]


def _mixed(line: Line) -> str:
    return f"{line.before.mixed_share:.2%} → {line.now.mixed_share:.2%} mixed"


def _ends(line: Line) -> str:
    return f"BIS {line.before.bis} → {line.now.bis}"
