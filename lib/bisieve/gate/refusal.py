"""What of a verdict is above its limit, in one line."""

from bisieve.errors import GateError
from bisieve.gate.verdict import Line, Verdict


def refuse(verdict: Verdict) -> None:
    """`GateError` with each number that exceeds its limit, and the limit; None where none does."""
    limits = verdict.limits
    failures = _rejects(verdict)
    failures += _drifts("mixture drift", limits.mixture_drift, {
        line.name: (line.mixture_drift, _mixed(line)) for line in verdict.lines
    })  # fmt: skip
    failures += _drifts("score drift", limits.score_drift, {
        line.name: (line.score_drift, _ends(line)) for line in verdict.lines
    })  # fmt: skip
    failures += _drifts("lost rollouts", limits.lost, {
        line.name: (line.lost, f"{line.before.rollouts} → {line.now.rollouts}") for line in verdict.lines
    })  # fmt: skip
    if failures:
        expected, found = (", ".join(parts) for parts in zip(*failures, strict=True))
        raise GateError(
            f"{expected} in version {verdict.now.name} of {verdict.now.index.url}", found,
            "correct the shards, score again, or raise the limit; bisieve report and bisieve diff show more",
        )  # fmt: skip


def _rejects(verdict: Verdict) -> list[tuple[str, str]]:
    whole, limit = verdict.now.whole, verdict.limits.reject_rate
    if whole.reject_rate <= limit:
        return []
    found = f"{whole.reject_rate:.2%} ({whole.rejected} of {whole.records})"
    return [(f"at most {limit:.2%} rejected records", f"{found} rejected")]


def _drifts(what: str, limit: float, found: dict[str, tuple[float | None, str]]) -> list[tuple[str, str]]:
    over = [(drift, name, moved) for name, (drift, moved) in found.items() if (drift or 0) > limit]
    if not over:
        return []
    drift, name, moved = max(over, key=lambda one: one[0] or 0)
    others = f" and {len(over) - 1} more" if len(over) > 1 else ""
    return [(f"at most {limit:.2%} {what}", f"{drift:.2%} {what} ({name}: {moved}){others}")]


def _mixed(line: Line) -> str:
    return f"{line.before.mixed_share:.2%} → {line.now.mixed_share:.2%} mixed"


def _ends(line: Line) -> str:
    return f"BIS {line.before.bis} → {line.now.bis}"
